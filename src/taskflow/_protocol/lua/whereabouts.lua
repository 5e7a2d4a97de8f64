-- whereabouts.lua: say in which homes a task stands.
--
-- Moves    none
-- KEYS[1]  active     zset, task id -> lease end (ms)
-- KEYS[2]  scheduled  zset, task id -> due time (ms)
-- KEYS[3]  completed  zset, task id -> end time (ms)
-- KEYS[4]  failed     zset, task id -> end time (ms)
-- KEYS[5]  cancelled  zset, task id -> end time (ms)
-- KEYS[6]  dlq        zset, task id -> time of death (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  id         of the task
-- Touches  task:<id>, tasks:pending:*, tasks:suspects, tasks:parked:*,
--          tasks:tombstones:*, read only
-- Returns  {state, lane, then the homes: a state, or PENDING:<lane>}; a record
--          without a state has the state 'nothing', and a tombstone without an
--          entry is a home 'tombstone:<lane>'
-- Cost     O(length of the three lists, and of those in which it may be parked)
-- Why      What was seen in two looks may have moved between them; this is
--          one look, so it is proof.
local active, scheduled, completed = KEYS[1], KEYS[2], KEYS[3]
local failed, cancelled, dlq = KEYS[4], KEYS[5], KEYS[6]
local id = ARGV[3]
-- @include clock
-- @include lanes
-- @include parking

local record = redis.pcall('HMGET', prefix .. 'task:' .. id, 'state', 'lane', 'parked', 'upstream', 'spec', 'payload')
local reply = { record.err and 'foreign' or record[1] or (record[5] or record[6]) and 'nothing' or '', record[2] or '' }
for _, home in ipairs({
  { active, 'ACTIVE' },
  { scheduled, 'SCHEDULED' },
  { completed, 'COMPLETED' },
  { failed, 'FAILED' },
  { cancelled, 'CANCELLED' },
  { dlq, 'DLQ' },
}) do
  if redis.call('ZSCORE', home[1], id) then
    reply[#reply + 1] = home[2]
  end
end
local function look(list, lane, name, shown)
  local live = #redis.call('LPOS', list, id, 'COUNT', 3) - redis.call('SISMEMBER', tombstones(lane, name), id)
  for _ = 1, live do
    reply[#reply + 1] = shown
  end
  if live < 0 then
    reply[#reply + 1] = 'tombstone:' .. lane
  end
end

local parked_for = parked_in(record[3])
local own = record[4] and string.match(record[4], ' (.+)$')
for _, lane in ipairs({ 'primary', 'retry', 'suspects' }) do
  look(lane_list(lane), lane, nil, parked_for and 'stray:' .. lane or 'PENDING:' .. lane)
  if parked_for then
    look(parked_list(parked_for, lane), lane, parked_for, 'PENDING:' .. lane)
  end
  if own and own ~= parked_for then
    look(parked_list(own, lane), lane, own, 'stray:' .. own .. ':' .. lane)
  end
end
return reply
