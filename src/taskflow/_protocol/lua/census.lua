-- census.lua: look over a few records for those that are not in one home.
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
-- ARGV[4]  count      records to look at, about
-- Touches  task:<id>, dlq:task:<id>, read only
-- Returns  {cursor, records, list of ids that misfit, list of ids that wait}
-- Cost     O(count)
-- Why      The proof for what stands in sorted sets is one step for each
--          record; the lists are compared by the caller.
local active, scheduled, completed = KEYS[1], KEYS[2], KEYS[3]
local failed, cancelled, dlq = KEYS[4], KEYS[5], KEYS[6]
local cursor, count = ARGV[3], tonumber(ARGV[4])
-- @include clock

local homes = {
  ACTIVE = active,
  SCHEDULED = scheduled,
  COMPLETED = completed,
  FAILED = failed,
  CANCELLED = cancelled,
  DLQ = dlq,
}
local pattern = string.gsub(prefix, '[%[%]%?%*\\]', '\\%0') .. 'task:*'
local found = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', count)
local records, misfits, waiting = 0, {}, {}
for _, key in ipairs(found[2]) do
  local id = string.sub(key, #prefix + 6)
  local told = not string.find(id, ':', 1, true) and redis.pcall('HMGET', key, 'state', 'spec', 'payload')
  local state = told and not told.err and (told[1] or (told[2] or told[3]) and 'nothing')
  if state then
    records = records + 1
    local fits = state == 'PENDING' or homes[state] ~= nil
    if state == 'DLQ' then
      fits = redis.call('EXISTS', prefix .. 'dlq:task:' .. id) == 1
    end
    for name, home in pairs(homes) do
      local there = redis.call('ZSCORE', home, id) and true or false
      fits = fits and there == (name == state)
    end
    if not fits then
      misfits[#misfits + 1] = id
    elseif state == 'PENDING' then
      waiting[#waiting + 1] = id
    end
  end
end
return { found[1], records, misfits, waiting }
