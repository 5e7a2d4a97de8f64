-- set_upstream.lua: declare an upstream, or open, close or reset it for the whole fleet.
--
-- Moves    none
-- KEYS[1]  upstreams  set of the names of all that were declared or steered
-- KEYS[2]  lanes      hash: credit of the retry lane, pauses, holds, what was served
-- KEYS[3]  held       set of the names of tasks that are held back
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  name       of the upstream; 'task:<name>' holds back the tasks of a name
-- ARGV[4]  verb       declare, name, open, close or reset
-- ARGV[5]  detail     declare, name: the rules as a JSON array, see upstream.lua;
--                     open: the reason, for people
-- ARGV[6]  expires    open: ms until it is tried again; 0 = when a person says so;
--                     declare, name: ms of recovery, when the server lost its
--                     data; 0 = it did not: see rules.lua
-- ARGV[7]  is_first   declare, name: 1 = no call can have been before, as in a test:
--                     the bucket of a new limit is full
-- Touches  upstream:<name>, tasks:parked, tasks:marker, tasks:events
-- Returns  1 when something changed, else 0; -1 when there is no such upstream
-- Cost     O(1)
-- Why      Every worker's next claim reads the same hash, so what a person says is
--          in force at once; the message that goes out serves bodies that run.
local names, lanes, held = KEYS[1], KEYS[2], KEYS[3]
local name, verb, detail, expires, is_first = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7] == '1'
-- @include clock
-- @include free_memory
-- @include upstream
-- @include rules

make_room()
local key = prefix .. 'upstream:' .. name
if verb == 'declare' or verb == 'name' then
  -- Who only names it leaves the rules that another worker declared.
  local is_default = verb == 'name'
  if upstream(name).is_known and (is_default or redis.call('HGET', key, 'rules') == detail) then
    redis.call('SADD', names, name)
    accept_lost_permits(key, expires)
    return 0
  end
  set_rules(name, names, detail, expires, is_default, is_first)
  return 1
end
displace(upstream(name))
local task = string.match(name, '^task:(.+)$')
if redis.call('SISMEMBER', names, name) == 0 then
  if not task or verb ~= 'open' then
    return -1
  end
  redis.call('SADD', names, name)
end
if task then
  redis.call(verb == 'open' and 'SADD' or 'SREM', held, task)
  if redis.call('EXISTS', held) == 1 then
    redis.call('HSET', lanes, 'held', 1)
  else
    redis.call('HDEL', lanes, 'held')
  end
end
local u = upstream(name)
if verb == 'open' then
  u.opens = 0
  turn(u, 'open', 'person', detail, expires > 0 and now + expires or 0)
  return 1
end
local was_shut = u.state ~= 'closed' or u.tap > now
if verb == 'reset' then
  redis.call('DEL', key .. ':permits')
  redis.call('HDEL', key, 'tat')
elseif not was_shut then
  return 0
end
redis.call('HDEL', key, 'tap_ms', 'tap_reason')
turn(u, 'closed', 'person', '', 0)
return was_shut and 1 or 0
