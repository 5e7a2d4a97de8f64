-- adopt.lua: give a task that stands in no home its home back.
--
-- Moves    PENDING without a list entry -> PENDING (retry lane); ACTIVE
--          without a lease, SCHEDULED without a time -> PENDING (retry lane)
-- KEYS[1]  active     zset, task id -> lease end (ms)
-- KEYS[2]  scheduled  zset, task id -> due time (ms)
-- KEYS[3]  retry      list of task ids
-- KEYS[4]  marker     zset that wakes a waiting worker
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  id         of the task
-- Touches  task:<id>, tasks:pending:*, tasks:suspects, tasks:parked:*
-- Returns  1 when it was given a home, 0 when it has one or needs none
-- Cost     O(length of the three lists)
-- Why      The proof and the move are one step, so a task that is claimed or
--          queued meanwhile is never queued twice.
local active, scheduled, retry, marker = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id = ARGV[3]
-- @include clock
-- @include lanes
-- @include parking

local record = prefix .. 'task:' .. id
local state = redis.call('HGET', record, 'state')
local parked_for = parked_in(redis.call('HGET', record, 'parked'))
if state == 'PENDING' then
  for _, lane in ipairs({ 'primary', 'retry', 'suspects' }) do
    if redis.call('LPOS', lane_list(lane), id)
      or parked_for and redis.call('LPOS', parked_list(parked_for, lane), id) then
      return 0
    end
  end
elseif state == 'ACTIVE' then
  if redis.call('ZSCORE', active, id) then
    return 0
  end
elseif state == 'SCHEDULED' then
  if redis.call('ZSCORE', scheduled, id) then
    return 0
  end
else
  return 0
end
local delivery = string.match(redis.call('HGET', record, 'token') or '', '^%d+') or 0
redis.call('HDEL', record, 'parked')
redis.call('HSET', record, 'state', 'PENDING', 'lane', 'retry', 'since_ms', now, 'token', delivery .. '::')
redis.call('RPUSH', retry, id)
redis.call('ZADD', marker, 0, 'work')
return 1
