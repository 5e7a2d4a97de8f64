-- inspect_task.lua: say all that the server holds of a task.
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
-- ARGV[4]  upstreams  how many others may have parked it or let it run; their names
--                     follow, then fingerprints of groups in which it may stand
-- Touches  task:<id>, tasks:pending:*, tasks:suspects, tasks:parked:*,
--          tasks:tombstones:*, dlq:*, tasks:key:*, upstream:<name>:*, read only
-- Returns  {now, what _shared/snapshot.lua gives with the lists among the homes,
--          keys of the tickets that it holds, then members of each group that was
--          named and whether it is listed}
-- Cost     O(length of the three lists, and of those in which it may be parked)
-- Why      What was seen in two looks may have moved between them; this is
--          one look, so it is proof.
local active, scheduled, completed = KEYS[1], KEYS[2], KEYS[3]
local failed, cancelled, dlq = KEYS[4], KEYS[5], KEYS[6]
local id, count = ARGV[3], tonumber(ARGV[4])
local names, fingerprints = { unpack(ARGV, 5, 4 + count) }, { unpack(ARGV, 5 + count) }
-- @include clock
-- @include lanes
-- @include parking
-- @include list_entries
-- @include idempotency
-- @include indexes
-- @include snapshot

local facts, record = sight(id, fingerprints)
local stands, tickets = facts[16], {}
for _, entry in ipairs(entries(id, record.parked, record.upstream, names)) do
  for _ = 1, entry.live do
    stands[#stands + 1] = 'PENDING:' .. entry.shown
  end
  if entry.live < 0 then
    stands[#stands + 1] = 'tombstone:' .. entry.shown
  end
end
names[#names + 1] = record.upstream and string.match(record.upstream, ' (.+)$')
local asked = {}
for _, name in ipairs(names) do
  for _, kind in ipairs(asked[name] and {} or { ':permits', ':probes' }) do
    if type(redis.pcall('ZSCORE', prefix .. 'upstream:' .. name .. kind, id)) == 'string' then
      tickets[#tickets + 1] = 'upstream:' .. name .. kind
    end
  end
  asked[name] = true
end
local groups = {}
for i, fingerprint in ipairs(fingerprints) do
  local members = redis.pcall('ZCARD', prefix .. 'dlq:group:' .. fingerprint)
  local is_listed = redis.call('ZSCORE', prefix .. 'dlq:groups', fingerprint)
  groups[2 * i - 1], groups[2 * i] = type(members) == 'number' and members or 0, is_listed and 1 or 0
end
return { now, facts, tickets, groups }
