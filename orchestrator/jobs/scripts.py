"""What happens to a job in one step, as scripts of the store. Every write of a worker carries its epoch.

A worker that takes a job over counts its epoch up; whoever still writes under an older one is refused (returns 0).
Keys are, in this order, those of the job, its events, its wishes, its journal and its lease, as far as a script needs them.
"""

_MINE = "if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end "

TAKE = """
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'queued' and status ~= 'running' then return 0 end
if redis.call('EXISTS', KEYS[5]) == 1 then return -1 end
if not redis.call('HGET', KEYS[1], 'started') then redis.call('HSET', KEYS[1], 'started', ARGV[1]) end
redis.call('HSET', KEYS[1], 'status', 'running', 'worker', ARGV[3])
redis.call('SET', KEYS[5], '1', 'PX', ARGV[2])
return redis.call('HINCRBY', KEYS[1], 'epoch', 1)
"""
"""Take a job: its new epoch. ARGV: time, lease in ms, worker. 0: it has ended or is gone; -1: another worker has it."""

HOLD = f"{_MINE} redis.call('SET', KEYS[5], '1', 'PX', ARGV[2]) return 1"
"""Keep a job from being taken. ARGV: epoch, lease in ms."""

DROP = f"{_MINE} redis.call('DEL', KEYS[5]) return 1"
"""Let another worker have a job at once. ARGV: epoch."""

_ADD = """
if tonumber(redis.call('HGET', KEYS[1], 'events')) < tonumber(ARGV[2]) then
    redis.call('XADD', KEYS[2], ARGV[2] .. '-0', 'type', ARGV[3], 'data', ARGV[4])
    redis.call('HSET', KEYS[1], 'events', ARGV[2])
end
"""

APPEND = f"{_MINE}{_ADD} return 1"
"""Add an event, once. ARGV: epoch, number, type, data."""

KEEP = f"{_MINE} redis.call('HSET', KEYS[4], ARGV[2], ARGV[3]) return 1"
"""Record a call. ARGV: epoch, key, record."""

END = f"""{_MINE}{_ADD}
redis.call('HSET', KEYS[1], 'status', ARGV[5], 'ended', ARGV[6])
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[7]) end
return 1
"""
"""End a job with its last event, which holds the result or the error. ARGV: epoch, number, type, data, status, time, TTL."""

CREATE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'status', 'queued', 'epoch', '0', 'events', '0')
redis.call('HSET', KEYS[1], 'request', ARGV[1], 'created', ARGV[2], 'tenant', ARGV[3])
redis.call('HSET', KEYS[1], 'traceparent', ARGV[4])
return 1
"""
"""Store a job, once. ARGV: request, time, tenant, the caller's span or nothing."""

WISH = """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return -1 end
if status ~= 'queued' and status ~= 'running' then return 0 end
redis.call('XADD', KEYS[3], '*', 'wish', ARGV[1])
return 1
"""
"""Wish for a job's end. ARGV: the wish. -1: there is no such job; 0: it has ended."""

FORGET = """
if redis.call('HGET', KEYS[1], 'status') ~= 'queued' then return 0 end
redis.call('XADD', KEYS[2], '1-0', 'type', ARGV[1], 'data', ARGV[2])
redis.call('HSET', KEYS[1], 'status', 'cancelled', 'ended', ARGV[3])
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[4]) end
return 1
"""
"""Cancel a job that nobody has begun. ARGV: type and data of its only event, time, TTL."""
