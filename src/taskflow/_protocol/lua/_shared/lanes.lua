-- lanes: where a waiting task of a lane stands.
-- Needs   prefix.  Gives  lane_of(text, default), lane_list(lane),
--         tombstones(lane, upstream).
-- What a record says is a lane only if there is such a lane: no key is made of
-- what a foreign hand wrote.
local LANES = { primary = true, retry = true, suspects = true }

local function lane_of(text, default)
  return LANES[text] and text or default
end

local function lane_list(lane)
  if lane == 'suspects' then
    return prefix .. 'tasks:suspects'
  end
  return prefix .. 'tasks:pending:' .. lane
end
-- upstream: given when it is parked for one.
local function tombstones(lane, upstream_name)
  return prefix .. 'tasks:tombstones:' .. (upstream_name and upstream_name .. ':' or '') .. lane
end
