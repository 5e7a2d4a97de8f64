-- list_entries: where a task stands in the lists in which it may wait.
-- Needs   prefix, lanes, parking.  Gives  entries(id, parked, upstream, names)
--         -> list of { list, tombstones, lane, parked_for, shown, live }, where
--         live is how many of its entries no tombstone strikes out, -1 for a
--         tombstone without an entry.
-- parked and upstream are fields of its record, names other upstreams that may have
-- parked it. O(length of these lists).
local function entries(id, parked, upstream, names)
  local lists, seen = { false }, {}
  local function may_be_parked_for(name)
    if name and not seen[name] then
      seen[name], lists[#lists + 1] = true, name
    end
  end
  may_be_parked_for(parked_in(parked))
  may_be_parked_for(upstream and string.match(upstream, ' (.+)$'))
  for _, name in ipairs(names) do
    may_be_parked_for(name)
  end
  local found = {}
  for _, name in ipairs(lists) do
    for _, lane in ipairs({ 'primary', 'retry', 'suspects' }) do
      local list, struck = name and parked_list(name, lane) or lane_list(lane), tombstones(lane, name or nil)
      local live = #redis.call('LPOS', list, id, 'COUNT', 0) - redis.call('SISMEMBER', struck, id)
      found[#found + 1] = { list = list, tombstones = struck, lane = lane, parked_for = name or nil,
        shown = (name and name .. ':' or '') .. lane, live = live }
    end
  end
  return found
end
