-- scan_records.lua: look over a few records, and say what the server holds of each.
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
-- ARGV[3]  cursor     of SCAN, 0 to begin
-- ARGV[4]  count      keys to look at, about
-- Touches  task:<id>, dlq:*, tasks:key:*, read only
-- Returns  {cursor, now, list of ids with a letter and no record, list of groups
--          that are not listed, fingerprint and members of each, then for each
--          record what _shared/snapshot.lua gives}
-- Cost     O(count)
-- Why      What stands in sorted sets is proven in one step for each record;
--          the lists are compared by the caller.
local active, scheduled, completed = KEYS[1], KEYS[2], KEYS[3]
local failed, cancelled, dlq = KEYS[4], KEYS[5], KEYS[6]
local cursor, count = ARGV[3], tonumber(ARGV[4])
-- @include clock
-- @include parking
-- @include idempotency
-- @include indexes
-- @include snapshot

local pattern = string.gsub(prefix, '[%[%]%?%*\\]', '\\%0') .. '*'
local found = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', count)
local strays, unlisted = {}, {}
local reply = { found[1], now, strays, unlisted }
for _, key in ipairs(found[2]) do
  local name = string.sub(key, #prefix + 1)
  local id, kind, buried = string.match(name, '^task:([^:]+)$'), string.match(name, '^dlq:(%a+):([^:]+)$')
  if id then
    local facts = sight(id, {})
    if facts[2] ~= '' and facts[2] ~= 'foreign' then
      reply[#reply + 1] = facts
    end
  elseif kind == 'task' and redis.call('EXISTS', prefix .. 'task:' .. buried) == 0 then
    strays[#strays + 1] = buried
  elseif kind == 'group' and not redis.call('ZSCORE', prefix .. 'dlq:groups', buried) then
    local members = redis.pcall('ZCARD', key)
    if type(members) == 'number' then
      unlisted[#unlisted + 1], unlisted[#unlisted + 2] = buried, members
    end
  end
end
return reply
