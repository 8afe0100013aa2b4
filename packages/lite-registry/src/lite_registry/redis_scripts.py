"""The Lua scripts that Redis runs in one step: each write of a lease, and the expiry of leases."""

from __future__ import annotations

__all__ = ("EXPIRE", "PUT", "REMOVE", "RENEW")

# KEYS: lapses, services, instances of the service. ARGV: service, id, channel, then as named.
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
redis.call('HINCRBY', KEYS[2], '', -1)
if redis.call('HINCRBY', KEYS[2], ARGV[1], -1) <= 0 then redis.call('HDEL', KEYS[2], ARGV[1]) end
redis.call('PUBLISH', ARGV[3], ARGV[1])
return 'removed'
"""

# KEYS: lapses, services, lapsed lately. ARGV: channel, prefix, share, least, window, longest (ms).
EXPIRE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local share, least = tonumber(ARGV[3]), tonumber(ARGV[4])
local present = tonumber(redis.call('HGET', KEYS[2], '') or '0')
local overdue = redis.call('ZCOUNT', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - tonumber(ARGV[5]))
local lately = redis.call('ZCARD', KEYS[3])
local allowed = math.max(least, math.floor(share * (present + lately))) - lately
local until_ = now
if overdue > allowed then until_ = now - tonumber(ARGV[6]) end
local lapsed = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', until_, 'LIMIT', 0, 1000)
for _, member in ipairs(lapsed) do
  local entry = cjson.decode(member)
  redis.call('ZREM', KEYS[1], member)
  if redis.call('HDEL', ARGV[2] .. entry[1], entry[2]) == 1 then
    redis.call('HINCRBY', KEYS[2], '', -1)
    if redis.call('HINCRBY', KEYS[2], entry[1], -1) <= 0 then
      redis.call('HDEL', KEYS[2], entry[1])
    end
    redis.call('ZADD', KEYS[3], now, member)
    redis.call('PUBLISH', ARGV[1], entry[1])
  end
end
return {#lapsed, overdue > allowed and 1 or 0}
"""
