-- report_progress.lua: store what a running task reports about itself.
--
-- Moves    none
-- KEYS[1]  task       hash, the record
-- KEYS[2]  stream     task:<id>:events, what the task emitted, capped
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  token      of the caller's claim
-- ARGV[4]  number     of this report within the claim; a repeat is dropped
-- ARGV[5]  progress   JSON object, or ''
-- ARGV[6]  usage      JSON object of amounts that are added up, or ''; no sum grows
--                     beyond the largest float
-- ARGV[7]  annotations JSON object of JSON texts by name, or ''
-- ARGV[8]  checkpoint JSON text, or ''
-- ARGV[9]  count      of emitted chunks that follow
-- Touches  nothing else
-- Returns  OK, STALE or GONE
-- Cost     O(n) for n chunks
-- Why      Reports of a worker that lost its lease must not mix with those
--          of the next run.
local task, stream = KEYS[1], KEYS[2]
local token, number, progress, usage = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local annotations, checkpoint, count = ARGV[7], ARGV[8], tonumber(ARGV[9])
local LARGEST = 1.7976931348623e308 -- of a float, in the digits that the encoder writes
-- @include clock
-- @include free_memory

local found = redis.call('HMGET', task, 'state', 'token', 'noted', 'usage')
if not found[1] then
  return 'GONE'
elseif found[1] ~= 'ACTIVE' or found[2] ~= token then
  return 'STALE'
end
local last, before = string.match(found[3] or '', '^(%d+) (.*)$')
if before == token and tonumber(last) >= number then
  return 'OK'
end
local function bounded(sum)
  sum = tonumber(sum) or 0
  return sum == sum and math.max(-LARGEST, math.min(LARGEST, sum)) or 0
end
local facts = annotations ~= '' and cjson.decode(annotations) or {}
local sums = ''
if usage ~= '' then
  local is_read, stored = pcall(cjson.decode, found[4] or '{}')
  local all = {}
  for name, sum in pairs(is_read and type(stored) == 'table' and stored or {}) do
    all[tostring(name)] = bounded(sum)
  end
  for name, amount in pairs(cjson.decode(usage)) do
    all[name] = bounded((all[name] or 0) + bounded(amount))
  end
  sums = cjson.encode(all)
end
make_room()
-- First, because it fails where a foreign key stands, and then nothing is written.
for i = 1, count do
  redis.call('XADD', stream, 'MAXLEN', '~', 500, '*', 'chunk', ARGV[9 + i], 'token', token)
end
redis.call('HSET', task, 'noted', number .. ' ' .. token)
if progress ~= '' then
  redis.call('HSET', task, 'progress', progress)
end
if sums ~= '' then
  redis.call('HSET', task, 'usage', sums)
end
for name, text in pairs(facts) do
  redis.call('HSET', task, 'note:' .. name, text)
end
if checkpoint ~= '' then
  redis.call('HSET', task, 'checkpoint', checkpoint)
end
return 'OK'
