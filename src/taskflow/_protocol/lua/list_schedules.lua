-- list_schedules.lua: read the schedules, the next tick first.
--
-- Moves    none
-- KEYS[1]  schedules  zset, schedule -> next tick (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  limit      most schedules to return
-- Touches  schedule:<name>, read only
-- Returns  {now, then per schedule: name, next tick, digest, about, last tick
--          or '', id of its task or '', time of its pause or ''}
-- Cost     O(limit)
-- Why      One look for all, with the time that the ticks are compared with.
local schedules = KEYS[1]
local limit = tonumber(ARGV[3])
-- @include clock

local reply = { now }
local found = redis.call('ZRANGE', schedules, 0, limit - 1, 'WITHSCORES')
for i = 1, #found, 2 do
  local known = redis.pcall('HMGET', prefix .. 'schedule:' .. found[i], 'digest', 'about', 'last_ms', 'last_id', 'paused')
  local n = #reply
  reply[n + 1], reply[n + 2] = found[i], found[i + 1]
  for j = 1, 5 do
    reply[n + 2 + j] = known[j] or ''
  end
end
return reply
