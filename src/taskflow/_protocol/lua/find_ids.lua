-- find_ids.lua: look over a few keys for tasks whose id begins or ends with a text.
--
-- Moves    none
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  cursor     of SCAN, 0 to begin
-- ARGV[4]  count      keys to look at, about
-- ARGV[5]  part       what the id begins or ends with
-- Touches  task:<id>, names only
-- Returns  {cursor, list of ids}
-- Cost     O(count)
-- Why      An operator types part of an id. No index of ids is kept for that: it
--          would cost every enqueue, and a scan costs only the one who asks.
local cursor, count, part = ARGV[3], tonumber(ARGV[4]), ARGV[5]
-- @include clock

local pattern = string.gsub(prefix, '[%[%]%?%*\\]', '\\%0') .. 'task:*'
local scanned = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', count)
local found = {}
for _, key in ipairs(scanned[2]) do
  local id = string.sub(key, #prefix + 6)
  local is_record = not string.find(id, ':', 1, true)
  if is_record and (string.sub(id, 1, #part) == part or string.sub(id, -#part) == part) then
    found[#found + 1] = id
  end
end
return { scanned[1], found }
