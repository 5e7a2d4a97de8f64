-- task_events.lua: read how a task stands, and what it emitted after a point.
--
-- Moves    none
-- KEYS[1]  task       hash, the record
-- KEYS[2]  stream     task:<id>:events, what the task emitted, capped
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  after      id of the last chunk seen; '' = from the first
-- ARGV[4]  limit      most chunks to return, 1..500
-- ARGV[5]  most_bytes of chunks; once they are reached, few more are added
-- Touches  nothing else
-- Returns  {} when there is no record; else state, attempts, progress or '',
--          1 when there may be more chunks, then id, chunk and token of each chunk
-- Cost     O(limit)
-- Why      State and chunks in one look: when the state is final and there are no
--          more chunks, the output is complete.
local task, stream = KEYS[1], KEYS[2]
local after, limit, most_bytes = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

local found = redis.pcall('HMGET', task, 'state', 'attempts', 'progress')
if not found[1] then
  return {}
end
local reply = { found[1], found[2] or 0, found[3] or '', 1 }
local from, bytes = after == '' and '-' or '(' .. after, 0
while limit > 0 and bytes < most_bytes do
  local step = math.min(limit, 16) -- of 64 KB at most
  local entries = redis.pcall('XRANGE', stream, from, '+', 'COUNT', step)
  for _, entry in ipairs(entries) do
    local n, fields = #reply, entry[2]
    reply[n + 1], reply[n + 2], reply[n + 3] = entry[1], fields[2], fields[4] or ''
    from, bytes = '(' .. entry[1], bytes + #fields[2]
  end
  if #entries < step then
    reply[4] = 0
    break
  end
  limit = limit - step
end
return reply
