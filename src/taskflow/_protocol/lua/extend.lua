-- extend.lua: renew the leases that a worker still holds.
--
-- Moves    none; an expired lease that nobody has reaped yet is renewed too
-- KEYS[1]  active     zset, task id -> lease end (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  lease      ms
-- ARGV[4]  count      of leases, 1..100; then two values for each: id, token
-- Touches  task:<id>, read only
-- Returns  count when all were renewed; else a list of words, one per lease:
--          OK, CANCEL (renewed, and a cancel is asked for), STALE, GONE
-- Cost     O(n log m)
-- Why      Compares the token, so that a worker that lost a task hears of it
--          and cannot take it back.
local active = KEYS[1]
local lease, count = tonumber(ARGV[3]), tonumber(ARGV[4])
-- @include clock
-- @include free_memory

local words, plain, renewed = {}, true, {}
for i = 1, count do
  local id, token = ARGV[3 + i * 2], ARGV[4 + i * 2]
  local found = redis.pcall('HMGET', prefix .. 'task:' .. id, 'state', 'token', 'cancel')
  if found.err or not found[1] then
    words[i], plain = 'GONE', false
  elseif found[1] ~= 'ACTIVE' or found[2] ~= token then
    words[i], plain = 'STALE', false
  else
    renewed[#renewed + 1], renewed[#renewed + 2] = now + lease, id
    words[i] = found[3] and 'CANCEL' or 'OK'
    plain = plain and not found[3]
  end
end
if #renewed > 0 then
  make_room()
  redis.call('ZADD', active, 'XX', unpack(renewed))
end
return plain and count or words
