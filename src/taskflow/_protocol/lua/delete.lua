-- delete.lua: remove a task, its side keys and its place, in one step.
--
-- Moves    any state -> nothing; ACTIVE only by force
-- KEYS[1]  task       hash, the record
-- KEYS[2]  active     zset, task id -> lease end (ms)
-- KEYS[3]  scheduled  zset, task id -> due time (ms)
-- KEYS[4]  completed  zset, task id -> end time (ms)
-- KEYS[5]  failed     zset, task id -> end time (ms)
-- KEYS[6]  cancelled  zset, task id -> end time (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  id         of the task
-- ARGV[4]  force      1 = also while it runs
-- Touches  task:<id>:events, tasks:tombstones:*, tasks:key:<key>, dlq:*,
--          tasks:parked, upstream:<name>:*
-- Returns  OK, GONE, or ACTIVE when it runs and force is not given
-- Cost     O(log m)
-- Why      A late settle of a deleted task finds no record, answers GONE and
--          writes nothing, so no half record can come to life.
local task, active, scheduled = KEYS[1], KEYS[2], KEYS[3]
local completed, failed, cancelled = KEYS[4], KEYS[5], KEYS[6]
local id, force = ARGV[3], ARGV[4]
-- @include clock
-- @include undo_dead_letter
-- @include lanes
-- @include parking
-- @include idempotency

local found = redis.pcall('HMGET', task, 'state', 'lane', 'key', 'upstream', 'parked')
local state = not found.err and found[1]
if found.err == nil and not state and redis.call('EXISTS', task) == 0
  and not redis.call('ZSCORE', prefix .. 'dlq:tasks', id) then
  return 'GONE'
elseif state == 'ACTIVE' and force ~= '1' then
  return 'ACTIVE'
end
redis.call('DEL', task, task .. ':events')
if state == 'PENDING' then
  redis.call('SADD', tombstones(lane_of(found[2], 'primary'), parked_in(found[5])), id)
end
local needed = state == 'ACTIVE' and found[4] and string.match(found[4], ' (.+)$')
if needed then
  free(needed, { id })
end
for _, home in ipairs({ active, scheduled, completed, failed, cancelled }) do
  redis.call('ZREM', home, id)
end
unbury(id)
local _, _, name = parse_key(not found.err and found[3])
if name then
  drop_key(name, id)
end
redis.pcall('XADD', prefix .. 'tasks:events', 'MAXLEN', '~', 1000, '*', 'event', 'deleted', 'id', id, 'from', state or 'corrupt', 'at_ms', now)
return 'OK'
