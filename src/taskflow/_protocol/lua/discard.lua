-- discard.lua: drop dead letters; their records stay as FAILED until pruned.
--
-- Moves    DLQ -> FAILED
-- KEYS[1]  failed     zset, task id -> end time (ms)
-- KEYS[2]  events     stream of rare events, capped
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  count      of ids that follow, 1..100
-- Touches  task:<id>, dlq:*, tasks:key:<key>
-- Returns  how many were discarded
-- Cost     O(n log m)
-- Why      A discard is a decision, not a loss: what was discarded can still be
--          looked up, and retried, for as long as results are kept.
local failed, events = KEYS[1], KEYS[2]
local count = tonumber(ARGV[3])
-- @include clock
-- @include free_memory
-- @include undo_dead_letter
-- @include idempotency
-- @include ending

local discarded = 0
make_room()
for i = 1, count do
  local id = ARGV[3 + i]
  local record = prefix .. 'task:' .. id
  local found = redis.pcall('HMGET', record, 'state', 'key', 'watched')
  if found.err or found[1] ~= 'DLQ' then
    if (found.err or not found[1]) and redis.call('ZSCORE', prefix .. 'dlq:tasks', id) then
      unbury(id)
      discarded = discarded + 1
    end
  else
    unbury(id)
    redis.call('HSET', record, 'state', 'FAILED', 'finished_ms', now)
    redis.call('ZADD', failed, now, id)
    ended(id, 'FAILED', found[2], found[3])
    discarded = discarded + 1
  end
end
if discarded > 0 then
  redis.pcall('XADD', events, 'MAXLEN', '~', 1000, '*', 'event', 'discarded', 'count', discarded, 'at_ms', now)
end
return discarded
