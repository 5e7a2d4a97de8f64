-- delete_keys.lua: count a few keys by kind, and delete those that are ours.
--
-- Moves    every state -> no record, when told to delete
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  cursor     of SCAN, 0 to begin
-- ARGV[4]  count      keys to look at, about
-- ARGV[5]  delete     1 = delete what is ours, 0 = count it
-- ARGV[6]  kinds      how many kinds there are; for each follow three
--                     arguments: pattern of the name behind the prefix, type,
--                     fields one of which a hash must have, '' = any
-- Touches  every key of ours under the prefix
-- Returns  {cursor, keys under the prefix that are not ours, then per kind how
--          many keys of it were found}
-- Cost     O(count)
-- Why      A key is ours by name and by type, so that an empty prefix on a
--          shared server deletes nobody else's. UNLINK frees large keys in
--          the background.
local cursor, count, delete = ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local kinds, rules = tonumber(ARGV[6]), ARGV
-- @include clock

local function has_one_of(key, fields)
  for field in string.gmatch(fields, '%S+') do
    if redis.call('HEXISTS', key, field) == 1 then
      return true
    end
  end
  return fields == ''
end

local function kind_of(key)
  local name = string.sub(key, #prefix + 1)
  for kind = 1, kinds do
    local at = 4 + 3 * kind
    if string.find(name, rules[at]) then
      local is_ours = redis.call('TYPE', key).ok == rules[at + 1] and has_one_of(key, rules[at + 2])
      return is_ours and kind
    end
  end
end

local counts, others = {}, 0
for kind = 1, kinds do
  counts[kind] = 0
end
local pattern = string.gsub(prefix, '[%[%]%?%*\\]', '\\%0') .. '*'
local found = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', count)
for _, key in ipairs(found[2]) do
  local kind = kind_of(key)
  if not kind then
    others = others + 1
  else
    counts[kind] = counts[kind] + 1
    if delete then
      redis.call('UNLINK', key)
    end
  end
end
return { found[1], others, unpack(counts) }
