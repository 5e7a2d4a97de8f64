-- moves: where a task goes that runs no more.
-- Needs   prefix, now, lanes, parking, ending; the keys that settle.lua binds.
--         Gives  later(id, lane, delay), finish(id, state, home, error, found),
--         back(id, found, is_shut).
local function later(id, lane, delay)
  local due = now + delay
  redis.call('HSET', prefix .. 'task:' .. id, 'state', 'SCHEDULED', 'lane', lane)
  redis.call('ZADD', scheduled, due, id)
  if redis.call('ZRANGE', scheduled, 0, 0)[1] == id then
    redis.call('ZADD', marker, due, 'due')
  end
end

local function finish(id, state, home, error, found)
  redis.call('HSET', prefix .. 'task:' .. id, 'state', state, 'error', error, 'finished_ms', now)
  redis.call('ZADD', home, now, id)
  ended(id, state, found[3], found[4])
end

-- To the head of the line that it came from; no attempt used.
local function back(id, found, is_shut)
  local name = found[6] and string.match(found[6], ' (.+)$')
  redis.call('HSET', prefix .. 'task:' .. id, 'state', 'PENDING', 'since_ms', now)
  if name and (is_shut or has_parked(name)) then
    park(id, name, found[5], 'LPUSH')
  else
    redis.call('LPUSH', lane_list(found[5]), id)
  end
  redis.call('ZADD', marker, 0, 'work')
end
