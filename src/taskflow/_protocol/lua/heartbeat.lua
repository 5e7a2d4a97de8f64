-- heartbeat.lua: say that a worker lives, and hear what it is asked to do.
--
-- Moves    none
-- KEYS[1]  heartbeat  string, time of the last beat (ms), expires
-- KEYS[2]  worker     hash: info, drain
-- KEYS[3]  workers    zset, worker id -> time of the last beat (ms)
-- KEYS[4]  lanes      hash: keeps the id of the data, and when data was lost
-- KEYS[5]  events     stream of rare events, capped
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  worker     id
-- ARGV[4]  ttl        ms until the worker counts as gone
-- ARGV[5]  info       JSON text for people; '' = the worker says goodbye
-- ARGV[6]  known      id of the data that the worker's last beat found; '' = none yet
-- ARGV[7]  new        id for data that has none
-- Touches  nothing else
-- Returns  {now, 1 when a drain is asked for, else 0, id of the data}
-- Cost     O(log w) for w workers
-- Why      Beats must pass on a full server, or every worker would look dead. A
--          server that restarted empty or was flushed has no id, and gets another:
--          so every worker learns within a beat that the data it knew is gone.
local heartbeat, worker_hash, workers, lanes, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local worker, ttl, info, known, new = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7]
-- @include clock
-- @include free_memory

if info == '' then
  redis.call('DEL', heartbeat, worker_hash)
  redis.call('ZREM', workers, worker)
  return { now, 0, known }
end
local id = redis.pcall('HGET', lanes, 'data_id')
make_room()
redis.call('SET', heartbeat, now, 'PX', ttl)
redis.call('ZADD', workers, now, worker)
redis.call('HSET', worker_hash, 'info', info)
redis.call('PEXPIRE', worker_hash, ttl)
if type(id) == 'table' then
  id = known -- a key of a foreign type says nothing of the data
elseif not id then
  id = new
  redis.call('HSET', lanes, 'data_id', id)
  if known ~= '' then
    redis.call('HSET', lanes, 'lost_ms', now)
    redis.pcall('XADD', events, 'MAXLEN', '~', 1000, '*', 'event', 'data_lost', 'worker', worker, 'at_ms', now)
  end
end
return { now, redis.call('HEXISTS', worker_hash, 'drain'), id }
