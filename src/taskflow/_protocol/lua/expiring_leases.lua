-- expiring_leases.lua: find a worker's leases that it does not seem to know of.
--
-- Moves    none
-- KEYS[1]  active     zset, task id -> lease end (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  worker     id
-- ARGV[4]  horizon    ms from now; a lease that ends sooner was not renewed
-- ARGV[5]  limit      most leases to examine, 1..100
-- Touches  task:<id>, read only
-- Returns  flat list of id and token
-- Cost     O(log m + limit); nothing to examine while all workers renew
-- Why      A claim whose reply was lost for good leaves leases that nobody
--          runs; the worker hands them back instead of letting them crash.
local active = KEYS[1]
local worker, horizon, limit = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
-- @include clock

local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', active, '-inf', now + horizon, 'LIMIT', 0, limit)) do
  local token = redis.pcall('HGET', prefix .. 'task:' .. id, 'token')
  if type(token) == 'string' and string.match(token, '^%d+:(.*):[^:]*$') == worker then
    found[#found + 1], found[#found + 2] = id, token
  end
end
return found
