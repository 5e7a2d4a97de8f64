-- snapshot: all that the server holds of a task, but for the lists it waits in.
-- Needs   prefix, indexes, HOMED, idempotency, parked_in.  Gives  sight(id, fingerprints) -> facts, record.
-- facts are what the reply says: id, state, lane, parked, token, attempts,
-- crashes, age, names of missing fields, lines of history, when it ended, end
-- of its lease, what becomes of its key, its letter, its groups, its homes; record
-- are parked and upstream as stored. Reads only, and meets any
-- type of these but the homes'.
local function missing_of(key, names)
  local missing = {}
  for _, name in ipairs(names) do
    if redis.pcall('HEXISTS', key, name) ~= 1 then
      missing[#missing + 1] = name
    end
  end
  return missing
end

local function key_of(key, id)
  local _, _, name = parse_key(key)
  if not name or not holds(name, id) then
    return ''
  end
  return redis.call('PTTL', prefix .. 'tasks:key:' .. name) < 0 and 'stays' or 'ends'
end

local function letter_of(id)
  local key = prefix .. 'dlq:task:' .. id
  if redis.call('EXISTS', key) == 0 then
    return {}
  end
  local found = redis.pcall('HMGET', key, 'cause', 'fingerprint', 'attempts', 'crashes')
  local letter = {}
  for i = 1, 4 do
    letter[i] = not found.err and found[i] or ''
  end
  letter[5] = missing_of(key, { 'cause', 'error', 'died_ms' })
  return letter
end

local function groups_of(id, fingerprints, own)
  local groups, seen = {}, {}
  local asked = { unpack(fingerprints) }
  asked[#asked + 1] = own ~= '' and own or nil
  for _, fingerprint in ipairs(asked) do
    local at = not seen[fingerprint] and redis.pcall('ZSCORE', prefix .. 'dlq:group:' .. fingerprint, id)
    if type(at) == 'string' then
      groups[#groups + 1] = fingerprint
    end
    seen[fingerprint] = true
  end
  return groups
end

local function sight(id, fingerprints)
  local record = prefix .. 'task:' .. id
  local found = redis.pcall('HMGET', record, 'state', 'lane', 'parked', 'token', 'attempts', 'crashes', 'age_ms',
    'finished_ms', 'key', 'history', 'upstream')
  local state, missing = 'foreign', {}
  if found.err then
    found = {}
  else
    missing = missing_of(record, { 'payload', 'spec', 'lane', 'created_ms' })
    local is_record = found[1] or missing[1] ~= 'payload' or missing[2] ~= 'spec'
    state = found[1] or (is_record and 'nothing' or redis.call('EXISTS', record) == 1 and 'foreign' or '')
  end
  if state == '' or state == 'foreign' then
    found, missing = {}, {}
  end
  local _, ends_of_lines = string.gsub(found[10] or '', '\n', '')
  local letter, stands = letter_of(id), {}
  for _, name in ipairs(HOMED) do
    if redis.call('ZSCORE', homes[name], id) then
      stands[#stands + 1] = name
    end
  end
  local facts = { id, state, found[2] or '', parked_in(found[3]) or '', found[4] or '',
    found[5] or '', found[6] or '', found[7] or '', missing, found[10] and ends_of_lines + 1 or 0,
    string.match(found[8] or '', '^%d+$') or '',
    redis.call('ZSCORE', homes.ACTIVE, id) or '', key_of(found[9], id), letter, groups_of(id, fingerprints, letter[2]), stands }
  return facts, { parked = found[3] or nil, upstream = found[11] or nil }
end
