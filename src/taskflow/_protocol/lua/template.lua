-- template.lua: read what a schedule would enqueue.
--
-- Moves    none
-- KEYS[1]  schedule   hash: digest, about, payload, spec, last_ms, last_id, paused
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- Touches  nothing else
-- Returns  {payload, spec, upstream}, or {} when there is no such schedule
-- Cost     O(1)
-- Why      Who runs it now need not have its code.
local schedule = KEYS[1]

local found = redis.call('HMGET', schedule, 'payload', 'spec', 'upstream')
return found[1] and { found[1], found[2], found[3] or '' } or {}
