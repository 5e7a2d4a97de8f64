-- upsert_schedule.lua: make schedules known, or put new definitions in the place of old.
--
-- Moves    none
-- KEYS[1]  schedules  zset, schedule -> next tick (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  count      of schedules, 1..100; then seven values for each: name, digest
--                     of the definition, JSON object for people (task, ticks, missed),
--                     payload and packed spec of its tasks, first tick (ms), and
--                     'weight name' of its tasks' upstream or ''
-- Touches  schedule:<name>
-- Returns  per schedule: 1 when the definition is new, else 0; and the next tick (ms)
-- Cost     O(n log s) for n of s schedules
-- Why      A definition that is known keeps its next tick, so a restart does
--          not lose the ticks that were missed.
local schedules = KEYS[1]
local count = tonumber(ARGV[3])
-- @include clock

local reply = {}
for i = 1, count do
  local at = 7 * i - 3
  local name, digest, about, payload = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local spec, first, upstream = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local schedule = prefix .. 'schedule:' .. name
  local score, known = redis.call('ZSCORE', schedules, name), redis.pcall('HGET', schedule, 'digest')
  if score and known == digest then
    reply[2 * i - 1], reply[2 * i] = 0, score
  else
    if type(known) == 'table' then
      redis.call('DEL', schedule) -- of a foreign type
    end
    redis.call('HSET', schedule, 'digest', digest, 'about', about, 'payload', payload, 'spec', spec)
    if upstream == '' then
      redis.call('HDEL', schedule, 'upstream')
    else
      redis.call('HSET', schedule, 'upstream', upstream)
    end
    redis.call('ZADD', schedules, first, name)
    reply[2 * i - 1], reply[2 * i] = 1, first
  end
end
return reply
