-- workers.lua: list the workers that beat lately.
--
-- Moves    none
-- KEYS[1]  workers    zset, worker id -> time of the last beat (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  limit      most workers to return, 1..1000
-- Touches  worker:<id>, worker:heartbeat:<id>, read only
-- Returns  {now, then per worker: id, last beat (ms), info, drain asked (0/1),
--          alive (0/1)}, the latest beat first
-- Cost     O(log w + limit)
-- Why      No broadcast: a dead worker cannot delay the answer.
local workers = KEYS[1]
local limit = tonumber(ARGV[3])
-- @include clock

local reply = { now }
local found = redis.call('ZREVRANGE', workers, 0, limit - 1, 'WITHSCORES')
for i = 1, #found, 2 do
  local worker = redis.pcall('HMGET', prefix .. 'worker:' .. found[i], 'info', 'drain')
  local n = #reply
  reply[n + 1], reply[n + 2] = found[i], found[i + 1]
  reply[n + 3], reply[n + 4] = worker[1] or '', worker[2] and 1 or 0
  reply[n + 5] = redis.call('EXISTS', prefix .. 'worker:heartbeat:' .. found[i])
end
return reply
