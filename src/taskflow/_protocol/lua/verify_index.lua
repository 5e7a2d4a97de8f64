-- verify_index.lua: look over a stretch of a home for what does not belong there.
--
-- Moves    none
-- KEYS[1]  home       list or zset of task ids
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  state      of the tasks whose home it is
-- ARGV[4]  lane       whose list it is; '' for a zset
-- ARGV[5]  first      entries to skip
-- ARGV[6]  count      most entries to look at
-- ARGV[7]  upstream   for which the list parks; '' = the lane's own list
-- ARGV[8]  fingerprint of the group of dead letters that the zset is; '' = none
-- Touches  task:<id>, dlq:task:<id>, tasks:tombstones:*, read only
-- Returns  {list of ids looked at, list of those that misfit}
-- Cost     O(first + count) for a list, O(log m + count) for a zset
-- Why      The other half of the proof: an id in a home that has no record,
--          or whose record stands elsewhere.
local home = KEYS[1]
local state, lane, first, count = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local parked_for, fingerprint = ARGV[7] ~= '' and ARGV[7] or nil, ARGV[8]
-- @include clock
-- @include lanes
-- @include parking

local ids
if lane == '' then
  ids = redis.call('ZRANGE', home, first, first + count - 1)
else
  ids = redis.call('LRANGE', home, first, first + count - 1)
end
local misfits = {}
for _, id in ipairs(ids) do
  local known = redis.pcall('HMGET', prefix .. 'task:' .. id, 'state', 'lane', 'parked')
  local is_here = lane == '' or known[2] == lane and parked_in(known[3]) == parked_for
  local fits = known[1] == state and is_here
  if fingerprint ~= '' then
    fits = fits and redis.pcall('HGET', prefix .. 'dlq:task:' .. id, 'fingerprint') == fingerprint
  end
  if lane ~= '' and redis.call('SISMEMBER', tombstones(lane, parked_for), id) == 1 then
    fits = known[1] ~= 'PENDING' or not is_here
  end
  if not fits then
    misfits[#misfits + 1] = id
  end
end
return { ids, misfits }
