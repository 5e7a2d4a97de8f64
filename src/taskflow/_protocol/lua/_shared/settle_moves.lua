-- settle_moves: where a task goes that runs no more.
-- Needs   prefix, now, lanes, parking, ending; the keys that settle.lua binds.
--         Gives  later(id, lane, delay), finish(id, state, home, error, found),
--         back(id, found, is_shut).
local function later(id, lane, delay)
  local due = now + delay
  redis.call('HSET', prefix .. 'task:' .. id, 'state', 'SCHEDULED', 'lane', lane)
  redis.call('ZADD', scheduled, due, id)
  if redis.call('ZRANGE', scheduled, 0, 0)[1] == id then
    redis.pcall('ZADD', marker, due, 'due')
  end
end

local function finish(id, state, home, error, found)
  redis.call('HSET', prefix .. 'task:' .. id, 'state', state, 'error', error, 'finished_ms', now)
  redis.call('ZADD', home, now, id)
  ended(id, state, found[3], found[4])
end

-- To the head of the line that it came from; no attempt used. A probe that failed
-- goes to the end of it: were it the fault of the task, no other would ever try.
local function back(id, found, is_shut, at_end)
  local name = found[6] and string.match(found[6], ' (.+)$')
  redis.call('HSET', prefix .. 'task:' .. id, 'state', 'PENDING', 'since_ms', now)
  if name and (is_shut or has_parked(name)) then
    park(id, name, found[5], at_end and 'RPUSH' or 'LPUSH')
  else
    redis.call('LPUSH', lane_list(found[5]), id)
  end
  redis.pcall('ZADD', marker, 0, 'work')
end
