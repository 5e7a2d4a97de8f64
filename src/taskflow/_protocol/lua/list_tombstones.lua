-- list_tombstones.lua: list a few of the ids whose entries in a list are struck out.
--
-- Moves       none
-- KEYS[1]     tombstones  set of task ids
-- ARGV[1]     now         ms since epoch; 0 = the server's own clock
-- ARGV[2]     prefix      of every key
-- ARGV[3]     cursor      of SSCAN, 0 to begin
-- ARGV[4]     count       ids to look at, about
-- Touches     nothing else
-- Returns     {cursor, list of ids}
-- Cost        O(count)
-- Why         A tombstone without an entry would strike out a later task of that
--             id; the caller compares them with the entries.
local tombstones, cursor, count = KEYS[1], ARGV[3], tonumber(ARGV[4])
return redis.call('SSCAN', tombstones, cursor, 'COUNT', count)
