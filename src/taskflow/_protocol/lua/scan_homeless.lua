-- scan_homeless.lua: look over a few records for tasks that may stand in no home.
--
-- Moves    none
-- KEYS[1]  active     zset, task id -> lease end (ms)
-- KEYS[2]  scheduled  zset, task id -> due time (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  cursor     of SCAN, 0 to begin
-- ARGV[4]  count      records to look at, about
-- Touches  task:<id>, read only
-- Returns  {cursor, list of ids without a home, list of ids that wait}
-- Cost     O(count)
-- Why      The one place that scans, on an operator's request, in small steps.
local active, scheduled = KEYS[1], KEYS[2]
local cursor, count = ARGV[3], tonumber(ARGV[4])
-- @include clock

local pattern = string.gsub(prefix, '[%[%]%?%*\\]', '\\%0') .. 'task:*'
local found = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', count)
local homeless, waiting = {}, {}
for _, key in ipairs(found[2]) do
  local id = string.sub(key, #prefix + 6)
  local state = not string.find(id, ':', 1, true) and redis.pcall('HGET', key, 'state')
  if state == 'PENDING' then
    waiting[#waiting + 1] = id
  elseif state == 'ACTIVE' and not redis.call('ZSCORE', active, id) then
    homeless[#homeless + 1] = id
  elseif state == 'SCHEDULED' and not redis.call('ZSCORE', scheduled, id) then
    homeless[#homeless + 1] = id
  end
end
return { found[1], homeless, waiting }
