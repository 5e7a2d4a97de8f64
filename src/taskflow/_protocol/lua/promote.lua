-- promote.lua: bring due tasks from the schedule to their lanes.
--
-- Moves    SCHEDULED -> PENDING
-- KEYS[1]  scheduled  zset, task id -> due time (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  limit      most tasks to move, 1..100
-- Touches  task:<id>, the lists of the lanes, tasks:parked:*, tasks:marker, dlq:*
-- Returns  {now, tasks moved, due time of the next one or 0}
-- Cost     O(n log m)
-- Why      Taken out and put in within one script: any number of promoters
--          move a task once.
local scheduled = KEYS[1]
local limit = tonumber(ARGV[3])
-- @include clock
-- @include free_memory
-- @include dead_letter
-- @include idempotency
-- @include ending
-- @include quarantine
-- @include parking
-- @include lanes
-- @include promote

make_room()
local moved = promote_due(limit)
return { now, moved, redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')[2] or 0 }
