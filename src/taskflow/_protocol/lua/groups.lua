-- groups.lua: list the dead letters grouped by error fingerprint.
--
-- Moves    none
-- KEYS[1]  groups     zset, fingerprint -> time of the last death (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  skip       groups to skip, latest death first
-- ARGV[4]  limit      most groups to return, 1..200
-- Touches  dlq:group:<fingerprint>, dlq:task:<id>, task:<id>, read only
-- Returns  per group: fingerprint, count, first death, last death, cause,
--          error, id of the newest, its spec
-- Cost     O(skip + limit)
-- Why      At 3 a.m. the question is how many kinds of error there are.
local groups = KEYS[1]
local skip, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
-- @include clock

local reply = {}
for _, fingerprint in ipairs(redis.call('ZREVRANGE', groups, skip, skip + limit - 1)) do
  local group = prefix .. 'dlq:group:' .. fingerprint
  local oldest = redis.pcall('ZRANGE', group, 0, 0, 'WITHSCORES')
  local newest = redis.pcall('ZREVRANGE', group, 0, 0, 'WITHSCORES')
  if newest[1] then
    local letter = redis.pcall('HMGET', prefix .. 'dlq:task:' .. newest[1], 'cause', 'error')
    local spec = redis.pcall('HGET', prefix .. 'task:' .. newest[1], 'spec')
    local n = #reply
    reply[n + 1], reply[n + 2] = fingerprint, redis.call('ZCARD', group)
    reply[n + 3], reply[n + 4] = oldest[2], newest[2]
    reply[n + 5], reply[n + 6] = letter[1] or '', letter[2] or ''
    reply[n + 7], reply[n + 8] = newest[1], type(spec) == 'string' and spec or ''
  end
end
return reply
