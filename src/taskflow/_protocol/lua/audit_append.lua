-- audit_append.lua: write a line of the audit log: who did what.
--
-- Moves    none
-- KEYS[1]  events     stream, capped
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  event      what happened, one word
-- ARGV[4]  actor      who did it; '' = not known
-- ARGV[5]  facts      JSON object
-- Touches  nothing else
-- Returns  1
-- Cost     O(1)
-- Why      Must pass on a full server: that is when people act. Sent again, a line
--          stands there twice, as those of other deeds do; never not at all.
local events = KEYS[1]
local event, actor, facts = ARGV[3], ARGV[4], ARGV[5]
-- @include clock
-- @include free_memory

make_room()
redis.call('XADD', events, 'MAXLEN', '~', 1000, '*', 'event', event, 'actor', actor, 'facts', facts, 'at_ms', now)
return 1
