-- claim_sources: upstreams whose parked tasks may go on now.
-- Needs   prefix, now, upstream.lua, admission.lua, parking.lua.  Gives  depth(u, lane),
--         find_sources(lanes), ready(lane), next_source(lane), keep_parked(served),
--         with_unknown(due).
-- At most ten of them in one claim; those that had no turn come first in the next.
local sources, has_parked_tasks = {}, false

local function depth(u, lane)
  if u.parked == nil then
    u.parked = has_parked_tasks and has_parked(u.name) and true or false
  end
  if not u.depth[lane] then
    u.depth[lane] = u.parked and redis.call('LLEN', parked_list(u.name, lane)) or 0
  end
  return u.depth[lane]
end

local function find_sources()
  local found = redis.call('ZRANGE', prefix .. 'tasks:parked', 0, 9, 'WITHSCORES')
  has_parked_tasks = #found > 0
  for i = 1, #found, 2 do
    local u = tonumber(found[i + 1]) <= now and upstream(found[i])
    if u then
      u.parked = true
      if room(u) > 0 then
        sources[#sources + 1] = u
      end
    end
  end
end

-- How many parked tasks of a lane may be handed out.
local function ready(lane)
  local count = 0
  for _, u in ipairs(sources) do
    count = count + math.max(0, math.min(room(u) - u.planned, depth(u, lane)))
  end
  return count
end

-- The upstream whose turn it is in a lane; they take turns.
local function next_source(lane)
  for place, u in ipairs(sources) do
    if room(u) > u.planned and depth(u, lane) > 0 then
      table.remove(sources, place)
      sources[#sources + 1] = u
      u.planned, u.depth[lane] = u.planned + 1, u.depth[lane] - 1
      return u
    end
  end
end

-- Note when each upstream with parked tasks is to be looked at again. True when one
-- of them could go on at once.
local function keep_parked(served)
  local at_once = false
  for name, u in pairs(upstreams) do
    if u.parked then
      local waiting, servable = 0, false
      for _, lane in ipairs({ 'primary', 'retry', 'suspects' }) do
        waiting = waiting + depth(u, lane)
        servable = servable or served[lane] and depth(u, lane) > 0
      end
      if waiting == 0 then
        redis.call('ZREM', prefix .. 'tasks:parked', name)
      elseif room(u) > 0 then
        at_once = at_once or servable
        redis.call('ZADD', prefix .. 'tasks:parked', servable and now or now + 1000, name)
      else
        redis.call('ZADD', prefix .. 'tasks:parked', u.again, name)
      end
    end
  end
  return at_once
end

-- Name the upstreams that somebody has to declare, if there are any.
local function with_unknown(due)
  local unknown = {}
  for name, u in pairs(upstreams) do
    unknown[#unknown + 1] = not u.is_known and name or nil
  end
  if #unknown == 0 then
    return due
  end
  table.sort(unknown)
  return { due, unpack(unknown) }
end
