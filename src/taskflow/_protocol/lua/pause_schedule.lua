-- pause_schedule.lua: pause a schedule, let it go on, or forget it.
--
-- Moves    none
-- KEYS[1]  schedules  zset, schedule -> next tick (ms)
-- KEYS[2]  schedule   hash: digest, about, payload, spec, last_ms, last_id, paused
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  name       of the schedule
-- ARGV[4]  verb       pause, resume or remove
-- Touches  tasks:events
-- Returns  1, or 0 when there is no such schedule
-- Cost     O(log s) for s schedules
-- Why      The tick looks at the flag in the step in which it would enqueue.
local schedules, schedule = KEYS[1], KEYS[2]
local name, verb = ARGV[3], ARGV[4]
-- @include clock
-- @include free_memory

if not redis.call('ZSCORE', schedules, name) then
  return 0
end
make_room()
if verb == 'pause' then
  redis.call('HSET', schedule, 'paused', now)
elseif verb == 'resume' then
  redis.call('HDEL', schedule, 'paused')
else
  redis.call('ZREM', schedules, name)
  redis.call('DEL', schedule)
end
redis.pcall('XADD', prefix .. 'tasks:events', 'MAXLEN', '~', 1000, '*', 'event', 'schedule_' .. verb, 'schedule', name, 'at_ms', now)
return 1
