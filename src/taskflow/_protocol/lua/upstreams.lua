-- upstreams.lua: say how the external services stand.
--
-- Moves    none
-- KEYS[1]  upstreams  set of the names of all that were declared or steered
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  name       of the one that is asked for; '' = all, at most 200
-- Touches  upstream:*, tasks:parked*, tasks:tombstones:*, read only
-- Returns  {now, then per upstream: name, rules, state, since, retry (ms), shut
--          by, reason, tapped until (ms), tap reason, failed and all calls in the
--          window, tokens in the bucket as text, permits in use, probes underway,
--          parked in primary, retry and suspects, epoch, openings in a row}
-- Cost     O(u) for u upstreams
-- Why      One look, so that the figures fit together.
local names = KEYS[1]
local wanted = ARGV[3]
-- @include clock
-- @include lanes
-- @include parking
-- @include upstream

local function window(u)
  local slot = math.floor(now / math.max(1, math.floor(u.window / 20)))
  local failed, calls = 0, 0
  for _, text in ipairs(redis.pcall('HMGET', u.key, window_fields())) do
    local stamp, bad, all = string.match(text or '', '^(%d+) (%d+) (%d+)$')
    if stamp and slot - tonumber(stamp) < 20 then
      failed, calls = failed + bad, calls + all
    end
  end
  return failed, calls
end

local function waiting(name, lane)
  return redis.call('LLEN', parked_list(name, lane)) - redis.call('SCARD', tombstones(lane, name))
end

local function tickets(key)
  local count = redis.pcall('ZCARD', key)
  return type(count) == 'number' and count or 0
end

local asked = { wanted }
if wanted == '' then
  asked = redis.call('SSCAN', names, 0, 'COUNT', 200)[2]
elseif redis.call('SISMEMBER', names, wanted) == 0 then
  asked = {}
end
local reply = { now }
for _, name in ipairs(asked) do
  local u = upstream(name)
  local kept = redis.pcall('HMGET', u.key, 'since_ms', 'reason', 'tap_reason')
  local failed, calls = window(u)
  local tokens = u.limit > 0 and u.burst - math.max(0, u.tat - now) * u.limit / u.per or 0
  for _, value in ipairs({ name, cjson.encode(u.rules), u.state, kept[1] or 0, u.retry, u.by, kept[2] or '', u.tap, kept[3] or '',
    failed, calls, string.format('%.3f', tokens),
    tickets(u.key .. ':permits'), tickets(u.key .. ':probes'),
    waiting(name, 'primary'), waiting(name, 'retry'), waiting(name, 'suspects'), u.epoch, u.opens }) do
    reply[#reply + 1] = value
  end
end
return reply
