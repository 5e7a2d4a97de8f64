-- tick.lua: make ticks of schedules: enqueue their tasks and move on.
--
-- Moves    nothing -> PENDING (primary)
-- KEYS[1]  primary    list of task ids, next one at the left end
-- KEYS[2]  marker     zset that wakes a waiting worker
-- KEYS[3]  schedules  zset, schedule -> next tick (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  count      of ticks, 1..100; then eight values for each: name of the
--                     schedule, digest of the definition that the caller has, the
--                     tick that the caller saw as the next one (ms), the tick to wait
--                     for then (ms), id of the task ('' = let the tick pass), its
--                     payload, its packed spec, 'weight name' of its upstream or ''
-- Touches  task:<id>, schedule:<name>
-- Returns  per tick: MADE, LET, PAUSED, or PASSED when somebody else was first or has
--          another definition; the next tick (ms) of the schedule, and its digest;
--          both '' when there is no such schedule
-- Cost     O(n log s) for n ticks of s schedules
-- Why      The next tick is compared and moved in the step that stores the
--          task: of any number of workers one makes a tick, and a call that is
--          sent again finds it made. Its first write is one that needs memory, so
--          a full server refuses the ticks whole, to be made when there is room.
local primary, marker, schedules = KEYS[1], KEYS[2], KEYS[3]
local count = tonumber(ARGV[3])
-- @include clock

redis.call('LLEN', primary)
local reply, made = {}, {}
local function say(i, word, following, digest)
  reply[3 * i - 2], reply[3 * i - 1], reply[3 * i] = word, following or '', digest or ''
end

for i = 1, count do
  local at = 8 * i - 4
  local name, digest, due, following = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3]
  local id, payload, spec, upstream = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
  local schedule = prefix .. 'schedule:' .. name
  local known = redis.pcall('HMGET', schedule, 'digest', 'paused')
  local score = redis.call('ZSCORE', schedules, name)
  if known[1] ~= digest or not score or tonumber(score) ~= due then
    say(i, 'PASSED', score, known[1])
  elseif known[2] or id == '' then
    redis.call('ZADD', schedules, following, name)
    say(i, known[2] and 'PAUSED' or 'LET', following, digest)
  else
    redis.call('HSET', prefix .. 'task:' .. id, 'state', 'PENDING', 'lane', 'primary',
      'payload', payload, 'spec', spec, 'created_ms', now)
    if upstream ~= '' then
      redis.call('HSET', prefix .. 'task:' .. id, 'upstream', upstream)
    end
    redis.call('ZADD', schedules, following, name)
    redis.call('HSET', schedule, 'last_ms', due, 'last_id', id)
    made[#made + 1] = id
    say(i, 'MADE', following, digest)
  end
end
if #made > 0 then
  redis.call('RPUSH', primary, unpack(made))
  redis.pcall('ZADD', marker, 0, 'work')
end
return reply
