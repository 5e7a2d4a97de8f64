-- page.lua: list one page of a home, summaries only.
--
-- Moves    none
-- KEYS[1]  home       list or zset of task ids
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  kind       list, newest (zset from its high end) or oldest
-- ARGV[4]  after      list: entries to skip; zset: '' or 'score id' of the
--                     last entry seen
-- ARGV[5]  limit      most entries to examine, 1..200
-- Touches  task:<id>, dlq:task:<id>, read only
-- Returns  {cursor or '', then per task: id, score, state, lane, spec,
--          attempts, crashes, created_ms, finished_ms, error, fingerprint,
--          cause}
-- Cost     O(log m + limit) for a zset, O(skipped + limit) for a list
-- Why      Bounded, and payloads stay where they are.
local home = KEYS[1]
local kind, after, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
-- @include clock

local ids, scores, cursor = {}, {}, ''

local function range(first, last)
  local command = kind == 'newest' and 'ZREVRANGE' or 'ZRANGE'
  local found = redis.call(command, home, first, last, 'WITHSCORES')
  for i = 1, #found, 2 do
    ids[#ids + 1], scores[#scores + 1] = found[i], found[i + 1]
  end
end

if kind == 'list' then
  local skip = tonumber(after) or 0
  ids = redis.call('LRANGE', home, skip, skip + limit - 1)
  cursor = #ids == limit and tostring(skip + limit) or ''
else
  local first = 0
  local score, last = string.match(after, '^(%S+) (%S+)$')
  if last then
    local rank = redis.call(kind == 'newest' and 'ZREVRANK' or 'ZRANK', home, last)
    if rank then
      first = rank + 1
    elseif kind == 'newest' then
      first = redis.call('ZCOUNT', home, score, '+inf')
    else
      first = redis.call('ZCOUNT', home, '-inf', score)
    end
  end
  range(first, first + limit - 1)
  cursor = #ids == limit and (scores[#ids] .. ' ' .. ids[#ids]) or ''
end

local reply = { cursor }
for i, id in ipairs(ids) do
  local found = redis.pcall('HMGET', prefix .. 'task:' .. id, 'state', 'lane', 'spec', 'attempts',
    'crashes', 'created_ms', 'finished_ms', 'error')
  if found.err then
    found = {}
  end
  local letter = found[1] == 'DLQ' and redis.pcall('HMGET', prefix .. 'dlq:task:' .. id, 'fingerprint', 'cause') or {}
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3] = id, scores[i] or '', found[1] or ''
  reply[n + 4], reply[n + 5], reply[n + 6] = found[2] or '', found[3] or '', found[4] or 0
  reply[n + 7], reply[n + 8], reply[n + 9] = found[5] or 0, found[6] or '', found[7] or ''
  reply[n + 10], reply[n + 11], reply[n + 12] = found[8] or '', letter[1] or '', letter[2] or ''
end
return reply
