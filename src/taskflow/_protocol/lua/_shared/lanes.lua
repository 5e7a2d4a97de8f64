-- lanes: where a waiting task of a lane stands.
-- Needs   prefix.  Gives  lane_list(lane), tombstones(lane, upstream).
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
