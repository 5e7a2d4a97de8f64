-- pause.lua: hold back a lane, or let it go on.
--
-- Moves    none
-- KEYS[1]  lanes      hash: credit of the retry lane, pauses, what was served
-- KEYS[2]  marker     zset that wakes a waiting worker
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  lane       primary or retry
-- ARGV[4]  paused     1 = hold back, 0 = go on
-- Touches  tasks:events
-- Returns  1
-- Cost     O(1)
-- Why      Claim reads the flag in the same step in which it would pop.
local lanes, marker = KEYS[1], KEYS[2]
local lane, paused = ARGV[3], ARGV[4]
-- @include clock
-- @include free_memory

make_room()
if paused == '1' then
  redis.call('HSET', lanes, 'paused:' .. lane, now)
else
  redis.call('HDEL', lanes, 'paused:' .. lane)
  redis.pcall('ZADD', marker, 0, 'work')
end
redis.pcall('XADD', prefix .. 'tasks:events', 'MAXLEN', '~', 1000, '*', 'event', paused == '1' and 'paused' or 'resumed', 'lane', lane, 'at_ms', now)
return 1
