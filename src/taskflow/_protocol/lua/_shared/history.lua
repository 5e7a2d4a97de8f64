-- history: keep the last 20 attempts of a task, one line each.
-- Needs   prefix, now.  Gives  remember(id, entry, once).
-- A line is the time in ms, a blank, and a JSON object. Text, because Lua's
-- cjson turns an empty list into an object when it writes it back. With `once`, a
-- line equal to the last one replaces it, so that repeats do not push out the others.
local function remember(id, entry, once)
  local record = prefix .. 'task:' .. id
  local kept = {}
  for line in string.gmatch(redis.call('HGET', record, 'history') or '', '[^\n]+') do
    kept[#kept + 1] = line
  end
  if once and kept[#kept] and string.match(kept[#kept], '^%d+ (.*)$') == entry then
    kept[#kept] = nil
  end
  kept[#kept + 1] = string.format('%d %s', now, entry)
  local first = math.max(1, #kept - 19)
  redis.call('HSET', record, 'history', table.concat(kept, '\n', first))
end
