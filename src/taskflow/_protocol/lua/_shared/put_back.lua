-- put_back: return popped ids to the heads of the lists that they were taken from.
-- Gives  unfit, a list of {id, list}; leave_out(id, turn, waiting), put_back().
local unfit = {}

-- The reply is full: the id was popped, but waits as if it had not been.
local function leave_out(id, turn, waiting)
  unfit[#unfit + 1] = { id, turn.list }
  if turn.source then
    turn.source.depth[turn.lane] = turn.source.depth[turn.lane] + 1
  else
    waiting[turn.lane] = waiting[turn.lane] + 1
  end
end

-- One call per list, in the order in which the ids stood there.
local function put_back()
  local lists = {}
  for i = #unfit, 1, -1 do
    local ids = lists[unfit[i][2]] or {}
    ids[#ids + 1], lists[unfit[i][2]] = unfit[i][1], ids
  end
  for list, ids in pairs(lists) do
    redis.call('LPUSH', list, unpack(ids))
  end
end
