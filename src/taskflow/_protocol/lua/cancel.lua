-- cancel.lua: stop a task: at once while it waits, on request while it runs.
--
-- Moves    PENDING, SCHEDULED -> CANCELLED; ACTIVE is flagged and stays
-- KEYS[1]  task       hash, the record
-- KEYS[2]  scheduled  zset, task id -> due time (ms)
-- KEYS[3]  cancelled  zset, task id -> end time (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  id         of the task
-- Touches  tasks:tombstones:*, tasks:key:<key>, the worker's channel
-- Returns  {word, state}: CANCELLED, ASKED (it runs), REFUSED, GONE
-- Cost     O(log m)
-- Why      A worker that hears of it stops the body at once; one that does not
--          finds the flag when it renews. Removal from a long list is O(n); a
--          tombstone is O(1), and claim drops the id when it meets it.
local task, scheduled, cancelled = KEYS[1], KEYS[2], KEYS[3]
local id = ARGV[3]
-- @include clock
-- @include free_memory
-- @include lanes
-- @include parking
-- @include idempotency
-- @include ending

local found = redis.call('HMGET', task, 'state', 'lane', 'key', 'watched', 'parked', 'token')
local state = found[1]
if not state then
  return { 'GONE', '' }
elseif state == 'CANCELLED' then
  return { 'CANCELLED', state }
elseif state ~= 'PENDING' and state ~= 'SCHEDULED' and state ~= 'ACTIVE' then
  return { 'REFUSED', state }
end
make_room()
if state == 'ACTIVE' then
  redis.call('HSET', task, 'cancel', 1)
  local worker = string.match(found[6] or '', '^%d+:(.*):[^:]*$')
  if worker then
    redis.call('PUBLISH', prefix .. 'taskflow:worker:' .. worker, cjson.encode({ id = id, token = found[6] }))
  end
  return { 'ASKED', state }
elseif state == 'PENDING' then
  redis.call('SADD', tombstones(lane_of(found[2], 'primary'), parked_in(found[5])), id)
else
  redis.call('ZREM', scheduled, id)
end
redis.call('HSET', task, 'state', 'CANCELLED', 'finished_ms', now, 'error', '{"type":"Cancelled","message":"cancelled while it waited"}')
redis.call('ZADD', cancelled, now, id)
ended(id, 'CANCELLED', found[3], found[4])
return { 'CANCELLED', state }
