-- list_ids.lua: read a stretch of a waiting list, ids only.
--
-- Moves    none
-- KEYS[1]  list       of task ids
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  first      index from the left
-- ARGV[4]  count      of ids, 1..1000
-- Touches  nothing else
-- Returns  list of ids
-- Cost     O(first + count)
-- Why      The survey compares what waits with what stands in the lists.
local list = KEYS[1]
local first, count = tonumber(ARGV[3]), tonumber(ARGV[4])
-- @include clock

return redis.call('LRANGE', list, first, first + count - 1)
