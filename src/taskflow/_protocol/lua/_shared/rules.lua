-- rules: store the rules of an upstream without letting more calls begin than they allow.
-- Needs   prefix, now, upstream.lua.  Gives  accept_lost_permits(key, recovery),
--         set_rules(name, names, rules, recovery, is_default, is_first) -> the upstream.
-- A limit that the server did not know begins with an empty bucket, and one that is
-- changed with the tokens that were taken: so no restart and no deploy allows a burst on
-- top of the calls before it. recovery is the time (ms) that running calls get to report
-- the permits that the server lost with its data; 0 = none can be running. Until it ends
-- no call begins, where the concurrency is limited, or where the rules are defaults and
-- a worker may still declare the real ones.
local function accept_lost_permits(key, recovery)
  if recovery > 0 then
    redis.call('HSET', key, 'recovery_ms', now + recovery)
  end
end

local function set_rules(name, names, rules, recovery, is_default, is_first)
  local before = upstream(name)
  redis.call('SADD', names, name)
  displace(before)
  redis.call('HSET', before.key, 'rules', rules)
  accept_lost_permits(before.key, recovery)
  upstreams[name] = nil
  local u = upstream(name)
  if u.limit > 0 then
    local taken = is_first and 0 or u.burst
    if before.limit > 0 then
      taken = math.max(0, before.tat - now) * before.limit / before.per
    end
    u.tat = now + taken * u.per / u.limit
    redis.call('HSET', u.key, 'tat', string.format('%.3f', u.tat), 'seen_ms', now)
  end
  if before.is_known then
    return u
  elseif recovery > 0 and (u.concurrency > 0 or is_default) then
    tap(u, recovery, 'the server lost its data, and running calls are counted again')
  elseif redis.call('ZADD', prefix .. 'tasks:parked', 'XX', 'CH', 'LT', now, name) == 1 then
    redis.pcall('ZADD', prefix .. 'tasks:marker', 0, 'work')
  end
  return u
end
