-- tick.lua: make one tick of a schedule: enqueue its task and move on.
--
-- Moves    nothing -> PENDING (primary)
-- KEYS[1]  primary    list of task ids, next one at the left end
-- KEYS[2]  marker     zset that wakes a waiting worker
-- KEYS[3]  schedules  zset, schedule -> next tick (ms)
-- KEYS[4]  schedule   hash: digest, payload, spec, last_ms, last_id, paused
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  name       of the schedule
-- ARGV[4]  digest     of the definition that the caller has
-- ARGV[5]  due        the tick that the caller saw as the next one (ms)
-- ARGV[6]  following  the tick to wait for then (ms)
-- ARGV[7]  id         of the task; '' = let the tick pass
-- ARGV[8]  payload    of the task
-- ARGV[9]  spec       of the task, packed
-- ARGV[10] upstream   'weight name' of the task's; '' = none
-- Touches  task:<id>
-- Returns  MADE, LET, PAUSED, or PASSED when somebody else was first or has
--          another definition
-- Cost     O(log s) for s schedules
-- Why      The next tick is compared and moved in the step that stores the
--          task: of any number of workers one makes a tick, and a call that is
--          sent again finds it made. Its first write is that of the record, so
--          a full server refuses the tick whole, to be made when there is room.
local primary, marker, schedules, schedule = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local name, digest, due, following = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local id, payload, spec, upstream = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
-- @include clock

local known = redis.call('HMGET', schedule, 'digest', 'paused')
local score = redis.call('ZSCORE', schedules, name)
if known[1] ~= digest or not score or tonumber(score) ~= due then
  return 'PASSED'
elseif known[2] or id == '' then
  redis.call('ZADD', schedules, following, name)
  return known[2] and 'PAUSED' or 'LET'
end
redis.call('HSET', prefix .. 'task:' .. id, 'state', 'PENDING', 'lane', 'primary',
  'payload', payload, 'spec', spec, 'created_ms', now)
if upstream ~= '' then
  redis.call('HSET', prefix .. 'task:' .. id, 'upstream', upstream)
end
redis.call('RPUSH', primary, id)
redis.call('ZADD', marker, 0, 'work')
redis.call('ZADD', schedules, following, name)
redis.call('HSET', schedule, 'last_ms', due, 'last_id', id)
return 'MADE'
