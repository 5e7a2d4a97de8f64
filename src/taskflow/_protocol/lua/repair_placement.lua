-- repair_placement.lua: put a task back into its one home, whatever was done to it.
--
-- Moves    PENDING without a list entry -> PENDING (retry lane); ACTIVE
--          without a lease, SCHEDULED without a time -> PENDING (retry lane);
--          a record without a state that we know, or waiting without a
--          payload or a spec -> DLQ
-- KEYS[1]  active     zset, task id -> lease end (ms)
-- KEYS[2]  scheduled  zset, task id -> due time (ms)
-- KEYS[3]  completed  zset, task id -> end time (ms)
-- KEYS[4]  failed     zset, task id -> end time (ms)
-- KEYS[5]  cancelled  zset, task id -> end time (ms)
-- KEYS[6]  dlq        zset, task id -> time of death (ms)
-- KEYS[7]  retry      list of task ids
-- KEYS[8]  marker     zset that wakes a waiting worker
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  id         of the task
-- ARGV[4]  count      of upstreams that may have parked it; their names follow
-- Touches  task:<id>, tasks:pending:*, tasks:suspects, tasks:parked:*,
--          tasks:tombstones:*, dlq:*
-- Returns  {word, state, then what it stood in}; words: FINE; REQUEUED, it had
--          no home; PLACED, it had none or several and now has its own; REMOVED,
--          there is no record; QUARANTINED; FOREIGN, its key is no record
-- Cost     O(length of the lists)
-- Why      The proof and the move are one step, so a task that moves meanwhile
--          is never harmed. All types are met by a read before the first write.
local active, scheduled, completed = KEYS[1], KEYS[2], KEYS[3]
local failed, cancelled, dlq = KEYS[4], KEYS[5], KEYS[6]
local retry, marker = KEYS[7], KEYS[8]
local id, count = ARGV[3], tonumber(ARGV[4])
-- @include clock
-- @include free_memory
-- @include dead_letter
-- @include undo_dead_letter
-- @include idempotency
-- @include ending
-- @include quarantine
-- @include lanes
-- @include parking
-- @include list_entries
-- @include indexes

local record = prefix .. 'task:' .. id
local kind = redis.call('TYPE', record).ok
if kind ~= 'hash' and kind ~= 'none' then
  return { 'FOREIGN', kind }
end
local found = redis.call('HMGET', record, 'state', 'lane', 'parked', 'upstream', 'token', 'finished_ms', 'error', 'spec', 'payload')
local state = found[1]
if kind == 'hash' and not (state or found[8] or found[9]) then
  return { 'FOREIGN', kind }
end
local is_known = state == 'PENDING' or state and homes[state] ~= nil
local is_free = state == 'PENDING' or state == 'SCHEDULED' or state == 'ACTIVE' and not string.match(found[5] or '', '^%d+:[%w_.-]+:%S+$')
local is_half = is_free and not (found[8] and found[9])
if is_half then
  is_known = false
end
local parked_for = parked_in(found[3])

local names = {}
for i = 1, count do
  names[i] = ARGV[4 + i]
end
local reply, strays, is_there = { 'FINE', state or '' }, {}, false
for _, name in ipairs(HOMED) do
  if redis.call('ZSCORE', homes[name], id) then
    local is_own = is_known and name == state
    reply[#reply + 1] = name
    is_there = is_there or is_own
    strays[#strays + 1] = not is_own and { home = homes[name], name = name } or nil
  end
end
for _, entry in ipairs(entries(id, found[3], found[4], names)) do
  local is_own = is_known and state == 'PENDING' and entry.lane == found[2] and entry.parked_for == parked_for
  for _ = 1, entry.live do
    reply[#reply + 1] = 'PENDING:' .. entry.shown
  end
  is_there = is_there or is_own and entry.live > 0
  local extra = entry.live - (is_own and 1 or 0)
  if extra > 0 then
    strays[#strays + 1] = { list = entry.list, extra = extra }
  elseif entry.live < 0 then
    reply[#reply + 1] = 'tombstone:' .. entry.shown
    strays[#strays + 1] = { tombstones = entry.tombstones }
  end
end
local letter, fingerprint = prefix .. 'dlq:task:' .. id, nil
local letter_kind = redis.call('TYPE', letter).ok
if letter_kind == 'hash' then
  fingerprint = string.match(redis.call('HGET', letter, 'fingerprint') or '', '^[%w_%-]+$')
end
if state == 'DLQ' then
  local place = fingerprint and redis.pcall('ZSCORE', prefix .. 'dlq:group:' .. fingerprint, id)
  is_there = is_there and place and type(place) ~= 'table' and redis.call('ZSCORE', prefix .. 'dlq:groups', fingerprint)
elseif letter_kind ~= 'none' and not redis.call('ZSCORE', homes.DLQ, id) then
  reply[#reply + 1] = 'DLQ'
  strays[#strays + 1] = { name = 'DLQ' }
end
if #strays == 0 and (is_there or not state and kind == 'none') then
  return reply
end

make_room()
for _, stray in ipairs(strays) do
  if stray.list then
    redis.call('LREM', stray.list, -stray.extra, id)
  elseif stray.tombstones then
    redis.call('SREM', stray.tombstones, id)
  elseif stray.name == 'DLQ' then
    unbury(id)
  else
    redis.call('ZREM', stray.home, id)
  end
end
if kind == 'none' then
  reply[1] = 'REMOVED'
elseif not is_known then
  quarantine(id, is_half and 'the record has no payload or no spec' or 'the record has no state that is known')
  reply[1] = 'QUARANTINED'
elseif is_there then
  reply[1] = 'PLACED'
elseif state == 'DLQ' and fingerprint then
  local died_ms = string.match(found[6] or '', '^%d+$') or now
  redis.call('ZADD', homes.DLQ, died_ms, id)
  join_group(id, fingerprint, died_ms)
  reply[1] = 'PLACED'
elseif state == 'DLQ' then
  bury(id, { cause = 'corrupt', fingerprint = 'corrupt',
    error = found[7] or problem('CorruptRecord', 'the dead letter was gone') })
  reply[1] = 'PLACED'
elseif state == 'COMPLETED' or state == 'FAILED' or state == 'CANCELLED' then
  local ended_ms = string.match(found[6] or '', '^%d+$') or now
  redis.call('HSET', record, 'finished_ms', ended_ms)
  redis.call('ZADD', homes[state], ended_ms, id)
  reply[1] = 'PLACED'
else
  local delivery = string.match(found[5] or '', '^%d+') or 0
  redis.call('HDEL', record, 'parked')
  redis.call('HSET', record, 'state', 'PENDING', 'lane', 'retry', 'since_ms', now, 'token', delivery .. '::')
  redis.call('RPUSH', retry, id)
  redis.pcall('ZADD', marker, 0, 'work')
  reply[1] = 'REQUEUED'
end
return reply
