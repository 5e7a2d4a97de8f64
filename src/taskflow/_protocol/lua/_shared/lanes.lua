-- lanes: where a waiting task of a lane stands.
-- Needs   prefix.  Gives  lane_list(lane), tombstones(lane).
local function lane_list(lane)
  if lane == 'suspects' then
    return prefix .. 'tasks:suspects'
  end
  return prefix .. 'tasks:pending:' .. lane
end
local function tombstones(lane)
  return prefix .. 'tasks:tombstones:' .. lane
end
