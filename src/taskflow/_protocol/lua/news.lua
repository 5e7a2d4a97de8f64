-- news.lua: read how a task stands, and what it emitted after a point.
--
-- Moves    none
-- KEYS[1]  task       hash, the record
-- KEYS[2]  stream     task:<id>:events, what the task emitted, capped
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  after      id of the last chunk seen; '' = from the first
-- ARGV[4]  limit      most chunks to return, 1..500
-- Touches  nothing else
-- Returns  {} when there is no record; else state, attempts, progress or '',
--          then id, chunk and token of each chunk
-- Cost     O(limit)
-- Why      State and chunks in one look: when the state is final, what comes
--          with it is the rest.
local task, stream = KEYS[1], KEYS[2]
local after, limit = ARGV[3], tonumber(ARGV[4])

local found = redis.pcall('HMGET', task, 'state', 'attempts', 'progress')
if not found[1] then
  return {}
end
local reply = { found[1], found[2] or 0, found[3] or '' }
local from = after == '' and '-' or '(' .. after
for _, entry in ipairs(redis.pcall('XRANGE', stream, from, '+', 'COUNT', limit)) do
  local n, fields = #reply, entry[2]
  reply[n + 1], reply[n + 2], reply[n + 3] = entry[1], fields[2], fields[4] or ''
end
return reply
