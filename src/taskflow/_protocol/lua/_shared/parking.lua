-- parking: where tasks wait for their upstream, out of the way of all others.
-- Needs   prefix, now.  Gives  parked_list(name, lane), has_parked(name),
--         park(id, name, lane, command), parked_in(field) -> name,
--         has_tickets(name), free(name, ids).
-- tasks:parked says of each upstream with parked tasks when it may admit again.
local function parked_list(name, lane)
  return prefix .. 'tasks:parked:' .. name .. ':' .. lane
end

local function has_parked(name)
  return redis.call('ZSCORE', prefix .. 'tasks:parked', name)
end

local function park(id, name, lane, command)
  redis.call(command, parked_list(name, lane), id)
  redis.call('HSET', prefix .. 'task:' .. id, 'parked', string.format('%d %s', now, name))
  redis.call('ZADD', prefix .. 'tasks:parked', 'NX', now, name)
end

local function parked_in(field)
  return field and string.match(field, '^%d+ ([%w_.:%-]+)$') or nil
end

local function has_tickets(name)
  local key = prefix .. 'upstream:' .. name
  return redis.call('EXISTS', key .. ':permits', key .. ':probes') > 0
end

-- These tasks run no more: what waited for their permits may go on.
local function free(name, ids)
  local key = prefix .. 'upstream:' .. name
  local permits = redis.pcall('ZREM', key .. ':permits', unpack(ids))
  local probes = redis.pcall('ZREM', key .. ':probes', unpack(ids))
  if (permits ~= 0 or probes ~= 0) and has_parked(name) then
    redis.call('ZADD', prefix .. 'tasks:parked', 'XX', 'LT', now, name)
    redis.pcall('ZADD', prefix .. 'tasks:marker', 0, 'work')
  end
end
