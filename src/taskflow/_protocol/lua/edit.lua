-- edit.lua: replace the arguments of a dead letter.
--
-- Moves    none; the task stays in the DLQ until it is requeued
-- KEYS[1]  task       hash, the record
-- KEYS[2]  events     stream of rare events, capped
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  id         of the task
-- ARGV[4]  payload    JSON object of arguments by name
-- Touches  nothing else
-- Returns  OK, GONE, or the state that forbids it
-- Cost     O(1)
-- Why      Only a dead letter: nobody else can be reading its arguments.
local task, events = KEYS[1], KEYS[2]
local id, payload = ARGV[3], ARGV[4]
-- @include clock

local state = redis.call('HGET', task, 'state')
if not state then
  return 'GONE'
elseif state ~= 'DLQ' then
  return state
end
redis.call('HSET', task, 'payload', payload)
redis.pcall('XADD', events, 'MAXLEN', '~', 1000, '*', 'event', 'edited', 'id', id, 'at_ms', now)
return 'OK'
