-- drain.lua: ask a worker to finish what it runs and stop.
--
-- Moves    none
-- KEYS[1]  worker     hash: info, drain
-- KEYS[2]  heartbeat  string, time of the last beat (ms), expires
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- Touches  nothing else
-- Returns  1, or 0 when no such worker lives
-- Cost     O(1)
-- Why      The worker reads the wish with its next beat; its key expires with
--          the worker, so no wish outlives it.
local worker_hash, heartbeat = KEYS[1], KEYS[2]
-- @include clock
-- @include free_memory

if redis.call('EXISTS', heartbeat) == 0 then
  return 0
end
make_room()
redis.call('HSET', worker_hash, 'drain', now)
return 1
