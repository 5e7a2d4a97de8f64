-- release_permit.lua: say how calls of an upstream ended, and give their permit back.
--
-- Moves    none
-- KEYS[1]  parked     zset, upstream -> when it may admit again (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  name       of the upstream
-- ARGV[4]  ticket     'guard:...' as it entered; the id of the task whose claim paid
--                     for the call; '' = calls that needed no leave
-- ARGV[5]  epoch      in which the call began
-- ARGV[6]  outcome    success, failure, neutral, tap or refused
-- ARGV[7]  reason     for people, of tap and refused
-- ARGV[8]  wait       ms, of tap and refused
-- ARGV[9]  count      of calls that ended so
-- Touches  upstream:<name>*, tasks:marker, tasks:events
-- Returns  {state, epoch, when an open one is tried again (ms), now, reason}
-- Cost     O(log p) for p permits
-- Why      A guard's report that is sent again finds its ticket gone and is not
--          heard twice. One without a ticket may be: it is one call among many.
local parked = KEYS[1]
local name, ticket, epoch, outcome = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local why, wait, count = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
-- @include clock
-- @include free_memory
-- @include upstream
-- @include call_outcomes

make_room()
local u = upstream(name)
local is_guard = string.sub(ticket, 1, 6) == 'guard:'
if not is_guard or redis.pcall('ZREM', u.key .. ':permits', ticket) == 1 then
  local calls = {}
  for i = 1, count do
    calls[i] = ticket
  end
  hear(u, epoch, outcome, calls, why, wait)
  if is_guard and u.state == 'closed' and redis.call('ZADD', parked, 'XX', 'LT', 'CH', now, name) == 1 then
    redis.pcall('ZADD', prefix .. 'tasks:marker', 0, 'work')
  end
end
return { u.state, u.epoch, u.retry, now, u.state ~= 'closed' and redis.call('HGET', u.key, 'reason') or '' }
