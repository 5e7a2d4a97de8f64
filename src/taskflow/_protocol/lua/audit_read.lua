-- audit_read.lua: list the rare events, the newest first.
--
-- Moves    none
-- KEYS[1]  events     stream, capped
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  before     id of the last event seen; '' = from the newest
-- ARGV[4]  limit      most events to return, 1..200
-- Touches  nothing else
-- Returns  per event: its id, then a list of names and values
-- Cost     O(limit)
-- Why      Bounded, whatever has happened.
local events = KEYS[1]
local before, limit = ARGV[3], tonumber(ARGV[4])

local from = before == '' and '+' or '(' .. before
local reply = {}
for _, entry in ipairs(redis.call('XREVRANGE', events, from, '-', 'COUNT', limit)) do
  reply[#reply + 1], reply[#reply + 2] = entry[1], entry[2]
end
return reply
