-- prune.lua: forget finished tasks whose time is over.
--
-- Moves    COMPLETED, FAILED or CANCELLED -> nothing
-- KEYS[1]  home       zset of one of these states, task id -> end time (ms)
-- KEYS[2]  workers    zset, worker id -> time of the last beat (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  keep       ms that a finished task is kept
-- ARGV[4]  limit      most tasks to forget, 1..100
-- Touches  task:<id>, task:<id>:events
-- Returns  how many were forgotten
-- Cost     O(n log m)
-- Why      Record and home go together: a list never shows a ghost, which an
--          expiry on the record alone would leave.
local home, workers = KEYS[1], KEYS[2]
local keep, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
-- @include clock

local over = redis.call('ZRANGEBYSCORE', home, '-inf', now - keep, 'LIMIT', 0, limit)
for _, id in ipairs(over) do
  redis.call('DEL', prefix .. 'task:' .. id, prefix .. 'task:' .. id .. ':events')
  redis.call('ZREM', home, id)
end
redis.call('ZREMRANGEBYSCORE', workers, '-inf', now - 3600000)
return #over
