-- watch.lua: read how a task ended, or ask to be told when it does.
--
-- Moves    none; marks the record watched while it has not ended
-- KEYS[1]  task       hash, the record
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- Touches  nothing else
-- Returns  {state, result or '', error or '', attempts}, or {} when unknown
-- Cost     O(1)
-- Why      Only tasks that somebody waits for are announced when they end.
local task = KEYS[1]
-- @include clock
-- @include free_memory

local found = redis.call('HMGET', task, 'state', 'result', 'error', 'attempts', 'watched')
local state = found[1]
if not state then
  return {}
end
local waiting = state == 'PENDING' or state == 'ACTIVE' or state == 'SCHEDULED'
if waiting and not found[5] then
  make_room()
  redis.call('HSET', task, 'watched', now)
end
return { state, found[2] or '', found[3] or '', found[4] or 0 }
