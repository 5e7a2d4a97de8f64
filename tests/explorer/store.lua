-- store.lua: a keyspace in memory, and one script run on it.
--
-- The keyspace is a string between two runs: its keys in order, each with its type
-- and its value. A key is read when a script first touches it, and written back when
-- it changed; so a step costs what it touches.
--
--   keyspace  key [2] kind [2] value [2] deadline [1] ...
--   hash      field [3] value ..., fields in order      set   member [3] ...
--   zset      member [3] score ..., by score            list  element [3] ...
--
-- Gives  compile(source) -> function, call(function, keys, argv) -> number,
--        run(keyspace, number, now) -> keyspace, reply, error, what was told or nil
local json_decode, json_encode, is_changed = ...
if is_changed then
  jit.off() -- or no loop that runs for ever would be counted
end
local KEY_END, PART, ITEM = '\1', '\2', '\3'
local WRONG = 'WRONGTYPE Operation against a key holding the wrong kind of value'
local space, dirty, clock_ms, told = {}, {}, 0, {}
local calls = {}

local function text(value)
  if type(value) == 'number' then
    if value == math.floor(value) and math.abs(value) < 1e17 then
      return string.format('%.0f', value)
    end
    return string.format('%.17g', value)
  elseif type(value) ~= 'string' then
    error({ err = 'ERR Lua redis lib command arguments must be strings or integers' }, 0)
  end
  return value
end

local function number(value)
  local made = value == '-inf' and -math.huge or value == '+inf' and math.huge or tonumber(value)
  if not made then
    error({ err = 'ERR value is not a valid float' }, 0)
  end
  return made
end

local function split(raw)
  local parts, from = {}, 1
  while true do
    local to = string.find(raw, ITEM, from, true)
    if not to then
      break
    end
    parts[#parts + 1] = string.sub(raw, from, to - 1)
    from = to + 1
  end
  return parts
end

local function parse(entry)
  local kind, raw, value = entry.kind, entry.raw, {}
  if kind == 'string' then
    entry.value = raw
    return
  end
  local parts = split(raw)
  if kind == 'hash' then
    for i = 1, #parts, 2 do
      value[parts[i]] = parts[i + 1]
    end
  elseif kind == 'zset' then
    for i = 1, #parts, 2 do
      value[#value + 1] = { parts[i], tonumber(parts[i + 1]) }
    end
  elseif kind == 'set' then
    for _, member in ipairs(parts) do
      value[member] = true
    end
  else
    value = parts
  end
  entry.value = value
end

-- The value at a key; nil when there is none. Made when `kind` is to be made.
local function at(key, kind, make)
  local entry = space[key]
  if entry and entry.deadline > 0 and entry.deadline <= clock_ms then
    space[key], entry, dirty[key] = nil, nil, true
  end
  if not entry then
    if not make then
      return nil
    end
    entry = { kind = kind, value = kind == 'string' and '' or {}, deadline = 0 }
    space[key] = entry
  elseif entry.kind ~= kind then
    error({ err = WRONG }, 0)
  elseif not entry.value then
    parse(entry)
  end
  if make ~= nil then
    dirty[key], entry.raw = true, nil
  end
  return entry.value
end

local function drop_if_empty(key)
  local entry = space[key]
  if entry and entry.value and next(entry.value) == nil then
    space[key] = nil
  end
end

local function sorted(zset)
  table.sort(zset, function(a, b)
    if a[2] ~= b[2] then
      return a[2] < b[2]
    end
    return a[1] < b[1]
  end)
end

local function place(zset, member)
  for i, item in ipairs(zset or {}) do
    if item[1] == member then
      return i
    end
  end
end

local function bounds(count, first, last)
  first, last = tonumber(first), tonumber(last)
  if first < 0 then
    first = math.max(0, count + first)
  end
  if last < 0 then
    last = count + last
  end
  return first + 1, math.min(last, count - 1) + 1
end

local redis_commands = {}
local C = redis_commands

function C.TIME()
  return { text(math.floor(clock_ms / 1000)), text(clock_ms % 1000 * 1000) }
end

function C.EXISTS(...)
  local count = 0
  for _, key in ipairs({ ... }) do
    local entry = space[key]
    if entry and not (entry.deadline > 0 and entry.deadline <= clock_ms) then
      count = count + 1
    end
  end
  return count
end

function C.DEL(...)
  local count = C.EXISTS(...)
  for _, key in ipairs({ ... }) do
    if space[key] then
      space[key], dirty[key] = nil, true
    end
  end
  return count
end

function C.GET(key)
  return at(key, 'string') or false
end

function C.SET(key, value)
  space[key], dirty[key] = { kind = 'string', value = value, deadline = 0 }, true
  return { ok = 'OK' }
end

function C.PEXPIRE(key, ms)
  if C.EXISTS(key) == 0 then
    return 0
  end
  at(key, space[key].kind, false)
  space[key].deadline = clock_ms + number(ms)
  return 1
end

function C.PTTL(key)
  if C.EXISTS(key) == 0 then
    return -2
  end
  return space[key].deadline == 0 and -1 or space[key].deadline - clock_ms
end

function C.PERSIST(key)
  if C.EXISTS(key) == 0 or space[key].deadline == 0 then
    return 0
  end
  at(key, space[key].kind, false)
  space[key].deadline = 0
  return 1
end

function C.HGET(key, field)
  local hash = at(key, 'hash')
  return hash and hash[field] or false
end

function C.HMGET(key, ...)
  local hash, found = at(key, 'hash') or {}, {}
  for i, field in ipairs({ ... }) do
    found[i] = hash[field] or false
  end
  return found
end

function C.HEXISTS(key, field)
  local hash = at(key, 'hash')
  return hash and hash[field] and 1 or 0
end

function C.HSET(key, ...)
  local hash, parts, made = at(key, 'hash', true), { ... }, 0
  assert(#parts > 0 and #parts % 2 == 0, 'HSET wants pairs')
  for i = 1, #parts, 2 do
    made = made + (hash[parts[i]] and 0 or 1)
    hash[parts[i]] = parts[i + 1]
  end
  return made
end

function C.HSETNX(key, field, value)
  if C.HEXISTS(key, field) == 1 then
    return 0
  end
  return C.HSET(key, field, value)
end

function C.HDEL(key, ...)
  local hash, gone = at(key, 'hash'), 0
  if not hash then
    return 0
  end
  at(key, 'hash', false)
  for _, field in ipairs({ ... }) do
    gone = gone + (hash[field] and 1 or 0)
    hash[field] = nil
  end
  drop_if_empty(key)
  return gone
end

function C.HINCRBY(key, field, by)
  local before = C.HGET(key, field) or '0'
  if not string.match(before, '^-?%d+$') then
    error({ err = 'ERR hash value is not an integer' }, 0)
  end
  local sum = tonumber(before) + number(by)
  C.HSET(key, field, text(sum))
  return sum
end

function C.ZADD(key, ...)
  local parts, options, from = { ... }, {}, 1
  while not tonumber(parts[from]) do
    options[parts[from]], from = true, from + 1
  end
  local zset = at(key, 'zset')
  if not zset and options.XX then
    return 0
  end
  zset = at(key, 'zset', true)
  local added, changed = 0, 0
  for i = from, #parts, 2 do
    local score, member = number(parts[i]), parts[i + 1]
    local there = place(zset, member)
    if not there and not options.XX then
      zset[#zset + 1], added = { member, score }, added + 1
    elseif there and not options.NX then
      local old = zset[there][2]
      if not (options.LT and score >= old) and not (options.GT and score <= old) then
        zset[there][2], changed = score, changed + (score ~= old and 1 or 0)
      end
    end
  end
  sorted(zset)
  drop_if_empty(key)
  return options.CH and added + changed or added
end

function C.ZREM(key, ...)
  local zset, gone = at(key, 'zset'), 0
  assert(select('#', ...) > 0, 'ZREM wants members')
  for _, member in ipairs({ ... }) do
    local there = place(zset, member)
    if there then
      at(key, 'zset', false)
      table.remove(zset, there)
      gone = gone + 1
    end
  end
  drop_if_empty(key)
  return gone
end

function C.ZSCORE(key, member)
  local zset = at(key, 'zset')
  local there = place(zset, member)
  return there and text(zset[there][2]) or false
end

function C.ZCARD(key)
  return #(at(key, 'zset') or {})
end

local function items(zset, with_scores)
  local found = {}
  for _, item in ipairs(zset) do
    found[#found + 1] = item[1]
    if with_scores then
      found[#found + 1] = text(item[2])
    end
  end
  return found
end

function C.ZRANGE(key, first, last, with_scores)
  local zset, found = at(key, 'zset') or {}, {}
  local from, to = bounds(#zset, first, last)
  for i = from, to do
    found[#found + 1] = zset[i]
  end
  return items(found, with_scores)
end

function C.ZRANGEBYSCORE(key, low, high, limit, offset, count)
  assert(not limit or limit == 'LIMIT', 'of the options only LIMIT is here')
  local found, skip, most = {}, tonumber(offset or 0), tonumber(count or -1)
  for _, item in ipairs(at(key, 'zset') or {}) do
    if item[2] >= number(low) and item[2] <= number(high) then
      if skip > 0 then
        skip = skip - 1
      elseif most < 0 or #found < most then
        found[#found + 1] = item
      end
    end
  end
  return items(found)
end

function C.ZREMRANGEBYSCORE(key, low, high)
  local gone = C.ZRANGEBYSCORE(key, low, high)
  return #gone > 0 and C.ZREM(key, unpack(gone)) or 0
end

function C.LLEN(key)
  return #(at(key, 'list') or {})
end

function C.RPUSH(key, ...)
  local list = at(key, 'list', true)
  for _, element in ipairs({ ... }) do
    list[#list + 1] = element
  end
  return #list
end

function C.LPUSH(key, ...)
  local list = at(key, 'list', true)
  for _, element in ipairs({ ... }) do
    table.insert(list, 1, element)
  end
  return #list
end

function C.LPOP(key, count)
  local list = at(key, 'list')
  if not list then
    return false
  end
  at(key, 'list', false)
  local found = {}
  for _ = 1, math.min(tonumber(count or 1), #list) do
    found[#found + 1] = table.remove(list, 1)
  end
  drop_if_empty(key)
  return count and found or found[1]
end

function C.LINDEX(key, index)
  return (at(key, 'list') or {})[tonumber(index) + 1] or false
end

function C.LRANGE(key, first, last)
  local list, found = at(key, 'list') or {}, {}
  local from, to = bounds(#list, first, last)
  for i = from, to do
    found[#found + 1] = list[i]
  end
  return found
end

function C.LPOS(key, element)
  for i, each in ipairs(at(key, 'list') or {}) do
    if each == element then
      return i - 1
    end
  end
  return false
end

function C.SADD(key, ...)
  local set, added = at(key, 'set', true), 0
  for _, member in ipairs({ ... }) do
    added = added + (set[member] and 0 or 1)
    set[member] = true
  end
  return added
end

function C.SREM(key, ...)
  local set, gone = at(key, 'set'), 0
  for _, member in ipairs({ ... }) do
    if set and set[member] then
      at(key, 'set', false)
      set[member], gone = nil, gone + 1
    end
  end
  drop_if_empty(key)
  return gone
end

function C.SISMEMBER(key, member)
  local set = at(key, 'set')
  return set and set[member] and 1 or 0
end

-- Streams and messages are told to the caller and are no part of the keyspace.
function C.XADD(_, ...)
  local parts = { ... }
  for i = 1, #parts - 1 do
    if parts[i] == 'event' then
      told[#told + 1] = 'event ' .. parts[i + 1]
    end
  end
  return '0-1'
end

function C.PUBLISH(channel, message)
  local is_word = string.match(message, '^%u+$')
  told[#told + 1] = 'message ' .. string.match(channel, 'taskflow:%a+') .. (is_word and ' ' .. message or '')
  return 0
end

local function dispatch(name, ...)
  local command = redis_commands[string.upper(name)]
  if not command then
    error('no command ' .. name .. ' in store.lua', 0)
  end
  local arguments = { ... }
  for i = 1, select('#', ...) do
    arguments[i] = text(arguments[i])
  end
  return command(unpack(arguments, 1, select('#', ...)))
end

local redis = { call = dispatch }

function redis.pcall(...)
  local is_done, answer = pcall(dispatch, ...)
  if is_done then
    return answer
  elseif type(answer) == 'table' then
    return answer
  end
  error(answer, 0)
end

local function load_space(raw)
  space, dirty = {}, {}
  for key, kind, value, deadline in string.gmatch(raw, '([^\1\2]*)\2([^\1\2]*)\2([^\1\2]*)\2([^\1\2]*)\1') do
    space[key] = { kind = kind, raw = value, deadline = tonumber(deadline) }
  end
end

local function write(entry)
  local value, parts = entry.value, {}
  if entry.raw then
    return entry.raw
  elseif entry.kind == 'string' then
    return value
  elseif entry.kind == 'list' then
    parts = value
  elseif entry.kind == 'zset' then
    for _, item in ipairs(value) do
      parts[#parts + 1] = item[1]
      parts[#parts + 1] = text(item[2])
    end
  else
    local names = {}
    for name in pairs(value) do
      names[#names + 1] = name
    end
    table.sort(names)
    for _, name in ipairs(names) do
      parts[#parts + 1] = name
      if entry.kind == 'hash' then
        parts[#parts + 1] = value[name]
      end
    end
  end
  return table.concat(parts, ITEM) .. ITEM
end

local function save_space()
  local keys, lines = {}, {}
  for key in pairs(space) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for i, key in ipairs(keys) do
    local entry = space[key]
    lines[i] = key .. PART .. entry.kind .. PART .. write(entry) .. PART .. text(entry.deadline) .. KEY_END
  end
  return table.concat(lines)
end

local function compile(source, name)
  local made, why = loadstring('local redis, cjson, KEYS, ARGV = ...\n' .. source, name)
  if not made then
    return nil, why
  end
  return made
end

local function call(made, keys, argv)
  calls[#calls + 1] = { made, keys, argv }
  return #calls
end

local cjson = { decode = json_decode, encode = json_encode }

local function run(raw, number_of_call, now)
  load_space(raw)
  clock_ms, told = now, {}
  local it = calls[number_of_call]
  if is_changed then
    debug.sethook(function()
      error('it runs for ever', 0)
    end, '', 3000000)
  end
  local is_done, reply = pcall(it[1], redis, cjson, it[2], it[3])
  if not is_done then
    return raw, nil, type(reply) == 'table' and reply.err or tostring(reply)
  end
  local said = #told > 0 and table.concat(told, ITEM) or nil
  if next(dirty) == nil then
    return raw, reply, nil, said
  end
  return save_space(), reply, nil, said
end

return compile, call, run
