-- requeue.lua: bring ended or delayed tasks back to work, with fresh counts.
--
-- Moves    DLQ, FAILED, CANCELLED -> PENDING (retry lane); SCHEDULED ->
--          PENDING now, its lane and counts kept; the age begins again
-- KEYS[1]  scheduled  zset, task id -> due time (ms)
-- KEYS[2]  failed     zset, task id -> end time (ms)
-- KEYS[3]  cancelled  zset, task id -> end time (ms)
-- KEYS[4]  retry      list of task ids
-- KEYS[5]  marker     zset that wakes a waiting worker
-- KEYS[6]  events     stream of rare events, capped
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  nonce      of this call; a repeat answers OK again
-- ARGV[4]  only       state the tasks must be in, or '' for any of the above
-- ARGV[5]  count      of ids that follow, 1..100
-- Touches  task:<id>, dlq:*, tasks:tombstones:*, tasks:key:<key>
-- Returns  a list of words, one per id: OK, GONE, the state that forbids it, or
--          'HELD id key' if that task has taken the idempotency key
-- Cost     O(n log m)
-- Why      A task that was cancelled while it waited still has its id in the
--          list: its tombstone is taken away, and the id is not pushed twice.
local scheduled, failed, cancelled = KEYS[1], KEYS[2], KEYS[3]
local retry, marker, events = KEYS[4], KEYS[5], KEYS[6]
local nonce, only, count = ARGV[3], ARGV[4], tonumber(ARGV[5])
-- @include clock
-- @include undo_dead_letter
-- @include lanes
-- @include parking
-- @include idempotency
-- @include ending

local movable = { DLQ = true, FAILED = true, CANCELLED = true, SCHEDULED = true }

local function take_out(id, state)
  if state == 'DLQ' then
    unbury(id)
  else
    redis.call('ZREM', state == 'FAILED' and failed or cancelled, id)
  end
end

-- Returns HELD with the task that has taken the key; then nothing was moved.
local function bring_back(id, found)
  local record, lane = prefix .. 'task:' .. id, lane_of(found[2], 'retry')
  if found[1] == 'SCHEDULED' then
    redis.call('HSET', record, 'state', 'PENDING', 'since_ms', now, 'requeued', nonce, 'lane', lane)
    redis.call('HDEL', record, 'age_ms')
    redis.call('ZREM', scheduled, id)
    redis.call('RPUSH', lane_list(lane), id)
    return
  end
  local holder, name = retake_key(id, found[4])
  if holder then
    return string.format('HELD %s %s', holder, name)
  end
  redis.call('HSET', record, 'state', 'PENDING', 'since_ms', now, 'requeued', nonce)
  redis.call('HDEL', record, 'attempts', 'crashes', 'age_ms', 'finished_ms', 'cancel', 'expires_ms')
  take_out(id, found[1])
  if redis.call('SREM', tombstones(lane, parked_in(found[5])), id) == 0 then
    redis.call('HDEL', record, 'parked')
    redis.call('HSET', record, 'lane', 'retry')
    redis.call('RPUSH', retry, id)
  end
end

local words, moved = {}, 0
redis.call('LLEN', retry)
for i = 1, count do
  local id = ARGV[5 + i]
  local found = redis.pcall('HMGET', prefix .. 'task:' .. id, 'state', 'lane', 'requeued', 'key', 'parked')
  if found.err or not found[1] then
    words[i] = 'GONE'
  elseif found[3] == nonce then
    words[i] = 'OK'
  elseif not movable[found[1]] or (only ~= '' and only ~= found[1]) then
    words[i] = found[1]
  else
    words[i] = bring_back(id, found) or 'OK'
    if words[i] == 'OK' then
      redis.pcall('XADD', events, 'MAXLEN', '~', 1000, '*', 'event', 'requeued', 'id', id, 'from', found[1], 'at_ms', now)
      moved = moved + 1
    end
  end
end
if moved > 0 then
  redis.pcall('ZADD', marker, 0, 'work')
end
return words
