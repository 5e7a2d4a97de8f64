-- lanes: where a waiting task of a lane stands.
-- Needs   prefix.  Gives  lane_list(lane), tombstones(lane, upstream),
--         strike(id, lane, upstream).
local function lane_list(lane)
  if lane == 'suspects' then
    return prefix .. 'tasks:suspects'
  end
  return prefix .. 'tasks:pending:' .. lane
end
-- upstream: given when it is parked for one.
local function tombstones(lane, upstream_name)
  return prefix .. 'tasks:tombstones:' .. (upstream_name and upstream_name .. ':' or '') .. lane
end
-- Leave an entry in its list, where it stands for nothing: a tombstone strikes out
-- one entry. Where a task of the same id was struck out before, this one is removed.
local function strike(id, lane, upstream_name)
  if redis.call('SADD', tombstones(lane, upstream_name), id) == 0 then
    local parked = upstream_name and prefix .. 'tasks:parked:' .. upstream_name .. ':' .. lane
    redis.call('LREM', parked or lane_list(lane), 1, id)
  end
end
