"""The Lua scripts that Redis runs in one step: each write of a lease, and the expiry of leases."""

from __future__ import annotations

__all__ = ("EXPIRE", "PUT", "REMOVE", "RENEW")

# KEYS: lapses, services, instances of the service, registered. ARGV: service, id, channel, then as named.
PUT = """
local service, id, channel = ARGV[1], ARGV[2], ARGV[3]
local document, etag, ttl, capacity = ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local absent, matches = ARGV[8] == '1', cjson.decode(ARGV[9])
local present = redis.call('HGET', KEYS[3], id)
local present_etag = present and string.sub(present, 1, 16)
if absent and present then return 'present' end
if #matches > 0 then
  if not present then return 'missing' end
  local good = false
  for _, tag in ipairs(matches) do if tag == '*' or tag == present_etag then good = true end end
  if not good then return 'other' end
end
if not present and redis.call('HGET', KEYS[2], '') and
   tonumber(redis.call('HGET', KEYS[2], '')) >= capacity then return 'full' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local member = cjson.encode({service, id})
if ttl > 0 then redis.call('ZADD', KEYS[1], now + ttl, member)
else redis.call('ZREM', KEYS[1], member) end
if present_etag == etag then return 'same' end
redis.call('HSET', KEYS[3], id, etag .. document)
if not present then
  redis.call('ZADD', KEYS[4], now, member)
  redis.call('HINCRBY', KEYS[2], '', 1)
  redis.call('HINCRBY', KEYS[2], service, 1)
end
redis.call('PUBLISH', channel, service)
return present and 'changed' or 'created'
"""

RENEW = """
local present = redis.call('HGET', KEYS[3], ARGV[2])
if not present then return false end
local document = cjson.decode(string.sub(present, 17))
if document.ephemeral then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('ZADD', KEYS[1], now + document.ttl_seconds * 1000, cjson.encode({ARGV[1], ARGV[2]}))
end
return present
"""

REMOVE = """
local present = redis.call('HGET', KEYS[3], ARGV[2])
local matches = cjson.decode(ARGV[4])
if #matches > 0 then
  if not present then return 'missing' end
  local good = false
  for _, tag in ipairs(matches) do
    if tag == '*' or tag == string.sub(present, 1, 16) then good = true end
  end
  if not good then return 'other' end
end
if not present then return 'gone' end
redis.call('HDEL', KEYS[3], ARGV[2])
redis.call('ZREM', KEYS[1], cjson.encode({ARGV[1], ARGV[2]}))
redis.call('ZREM', KEYS[4], cjson.encode({ARGV[1], ARGV[2]}))
redis.call('HINCRBY', KEYS[2], '', -1)
if redis.call('HINCRBY', KEYS[2], ARGV[1], -1) <= 0 then redis.call('HDEL', KEYS[2], ARGV[1]) end
redis.call('PUBLISH', ARGV[3], ARGV[1])
return 'removed'
"""

# KEYS: lapses, services, lapsed lately, registered. ARGV: channel, prefix, share, least, window,
# longest (ms). Returns how many lapsed, and the members that are overdue and kept. See
# `match_replacements` for which of them are removed all the same; `registered` holds the instances
# that have not replaced another one yet.
EXPIRE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local share, least = tonumber(ARGV[3]), tonumber(ARGV[4])
local function remove(member, entry)
  redis.call('ZREM', KEYS[1], member)
  redis.call('ZREM', KEYS[4], member)
  if redis.call('HDEL', ARGV[2] .. entry[1], entry[2]) == 0 then return false end
  redis.call('HINCRBY', KEYS[2], '', -1)
  if redis.call('HINCRBY', KEYS[2], entry[1], -1) <= 0 then
    redis.call('HDEL', KEYS[2], entry[1])
  end
  redis.call('PUBLISH', ARGV[1], entry[1])
  return true
end
local function count_allowed()
  local present = tonumber(redis.call('HGET', KEYS[2], '') or '0')
  local lately = redis.call('ZCARD', KEYS[3])
  return math.max(least, math.floor(share * (present + lately))) - lately
end
local function find_renewal(member, entry, lapses_at)
  local present = redis.call('HGET', ARGV[2] .. entry[1], entry[2])
  if not present then return nil end
  return lapses_at - cjson.decode(string.sub(present, 17)).ttl_seconds * 1000
end
local function remove_replaced(members)
  local waiting, count = {}, 0
  for i = 1, #members, 2 do
    local entry = cjson.decode(members[i])
    local renewed_at = find_renewal(members[i], entry, tonumber(members[i + 1]))
    if renewed_at then
      waiting[entry[1]] = waiting[entry[1]] or {}
      table.insert(waiting[entry[1]], {renewed_at, members[i], entry})
    end
  end
  for service, overdue in pairs(waiting) do
    local candidates = {}
    for _, id in ipairs(redis.call('HKEYS', ARGV[2] .. service)) do
      local entry = {service, id}
      local member = cjson.encode(entry)
      local registered_at = redis.call('ZSCORE', KEYS[4], member)
      local lapses_at = registered_at and redis.call('ZSCORE', KEYS[1], member)
      if lapses_at and tonumber(lapses_at) > now then
        local renewed_at = find_renewal(member, entry, tonumber(lapses_at))
        if renewed_at and renewed_at > tonumber(registered_at) then
          table.insert(candidates, {tonumber(registered_at), member})
        end
      end
    end
    local function is_earlier(a, b) return a[1] < b[1] end
    table.sort(overdue, is_earlier)
    table.sort(candidates, is_earlier)
    local next_ = 1
    for _, candidate in ipairs(candidates) do
      if overdue[next_] and candidate[1] > overdue[next_][1] then
        redis.call('ZREM', KEYS[4], candidate[2])
        if remove(overdue[next_][2], overdue[next_][3]) then count = count + 1 end
        next_ = next_ + 1
      end
    end
  end
  return count
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - tonumber(ARGV[5]))
local count, until_ = 0, now
if redis.call('ZCOUNT', KEYS[1], '-inf', now) > count_allowed() then
  count = remove_replaced(
    redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1000))
  if redis.call('ZCOUNT', KEYS[1], '-inf', now) > count_allowed() then
    until_ = now - tonumber(ARGV[6])
  end
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', until_, 'LIMIT', 0, 1000)) do
  if remove(member, cjson.decode(member)) then
    count = count + 1
    redis.call('ZADD', KEYS[3], now, member)
  end
end
local kept = {}
if until_ < now then
  kept = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. until_, now, 'LIMIT', 0, 1000)
end
return {count, kept}
"""
