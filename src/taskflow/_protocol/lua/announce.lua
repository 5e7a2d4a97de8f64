-- announce.lua: make a schedule known, or put a new definition in its place.
--
-- Moves    none
-- KEYS[1]  schedules  zset, schedule -> next tick (ms)
-- KEYS[2]  schedule   hash: digest, about, payload, spec, last_ms, last_id, paused
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  name       of the schedule
-- ARGV[4]  digest     of the definition
-- ARGV[5]  about      JSON object for people: task, ticks, missed
-- ARGV[6]  payload    of its tasks
-- ARGV[7]  spec       of its tasks, packed
-- ARGV[8]  following  first tick of the definition (ms)
-- ARGV[9]  upstream   'weight name' of its tasks'; '' = none
-- Touches  nothing else
-- Returns  1 when the definition is new, else 0
-- Cost     O(log s) for s schedules
-- Why      A definition that is known keeps its next tick, so a restart does
--          not lose the ticks that were missed.
local schedules, schedule = KEYS[1], KEYS[2]
local name, digest, about, payload = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local spec, following, upstream = ARGV[7], ARGV[8], ARGV[9]

local score, known = redis.call('ZSCORE', schedules, name), redis.pcall('HGET', schedule, 'digest')
if type(known) == 'table' then
  redis.call('DEL', schedule) -- of a foreign type
elseif score and known == digest then
  return 0
end
redis.call('HSET', schedule, 'digest', digest, 'about', about, 'payload', payload, 'spec', spec)
if upstream == '' then
  redis.call('HDEL', schedule, 'upstream')
else
  redis.call('HSET', schedule, 'upstream', upstream)
end
redis.call('ZADD', schedules, following, name)
return 1
