-- poll_schedules.lua: read the next ticks of some schedules, and count all.
--
-- Moves    none
-- KEYS[1]  schedules  zset, schedule -> next tick (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  count      of names that follow, 0..100
-- Touches  schedule:<name>, read only
-- Returns  {now, number of all schedules, then per name: its next tick (ms) and its
--          digest; each '' when there is none}
-- Cost     O(n) for n names, however many schedules there are
-- Why      A worker knows the ticks of the schedules that it serves. It learns from
--          the number when some of them are gone, and reads only a few to see what
--          others changed.
local schedules = KEYS[1]
local count = tonumber(ARGV[3])
-- @include clock

local reply = { now, redis.call('ZCARD', schedules) }
for i = 1, count do
  local name = ARGV[3 + i]
  local digest = redis.pcall('HGET', prefix .. 'schedule:' .. name, 'digest')
  reply[2 * i + 1] = redis.call('ZSCORE', schedules, name) or ''
  reply[2 * i + 2] = type(digest) == 'string' and digest or ''
end
return reply
