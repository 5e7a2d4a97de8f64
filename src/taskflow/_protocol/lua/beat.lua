-- beat.lua: say that a worker lives, and hear what it is asked to do.
--
-- Moves    none
-- KEYS[1]  heartbeat  string, time of the last beat (ms), expires
-- KEYS[2]  worker     hash: info, drain
-- KEYS[3]  workers    zset, worker id -> time of the last beat (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  worker     id
-- ARGV[4]  ttl        ms until the worker counts as gone
-- ARGV[5]  info       JSON text for people; '' = the worker says goodbye
-- Touches  nothing else
-- Returns  {now, 1 when a drain is asked for, else 0}
-- Cost     O(log w) for w workers
-- Why      Beats must pass on a full server, or every worker would look dead.
local heartbeat, worker_hash, workers = KEYS[1], KEYS[2], KEYS[3]
local worker, ttl, info = ARGV[3], tonumber(ARGV[4]), ARGV[5]
-- @include clock
-- @include roomy

if info == '' then
  redis.call('DEL', heartbeat, worker_hash)
  redis.call('ZREM', workers, worker)
  return { now, 0 }
end
make_room()
redis.call('SET', heartbeat, now, 'PX', ttl)
redis.call('ZADD', workers, now, worker)
redis.call('HSET', worker_hash, 'info', info)
redis.call('PEXPIRE', worker_hash, ttl)
return { now, redis.call('HEXISTS', worker_hash, 'drain') }
