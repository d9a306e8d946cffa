"""What happens to a job in one step, as scripts of the store. Every write of a worker carries its epoch.

A worker that takes a job over counts its epoch up; whoever still writes under an older one is refused (returns 0).
Keys are, in this order, those of the job, its events, its wishes and its journal, as far as a script needs them.
"""

_MINE = "if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end "

TAKE = """
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'queued' and status ~= 'running' then return 0 end
if not redis.call('HGET', KEYS[1], 'started') then redis.call('HSET', KEYS[1], 'started', ARGV[1]) end
redis.call('HSET', KEYS[1], 'status', 'running')
return redis.call('HINCRBY', KEYS[1], 'epoch', 1)
"""
"""Take a job that has not ended: its new epoch. ARGV: the time."""

APPEND = f"{_MINE} redis.call('XADD', KEYS[2], ARGV[2] .. '-0', 'type', ARGV[3], 'data', ARGV[4]) return 1"
"""Add an event. ARGV: epoch, number, type, data."""

KEEP = f"{_MINE} redis.call('HSET', KEYS[4], ARGV[2], ARGV[3]) return 1"
"""Record a call. ARGV: epoch, key, record."""

END = f"""{_MINE}
redis.call('XADD', KEYS[2], ARGV[2] .. '-0', 'type', ARGV[3], 'data', ARGV[4])
redis.call('HSET', KEYS[1], 'status', ARGV[5], 'ended', ARGV[6])
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[7]) end
return 1
"""
"""End a job with its last event, which holds the result or the error. ARGV: epoch, number, type, data, status, time, TTL."""

WISH = """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return -1 end
if status ~= 'queued' and status ~= 'running' then return 0 end
redis.call('XADD', KEYS[3], '*', 'wish', ARGV[1])
return 1
"""
"""Wish for a job's end. ARGV: the wish. -1: there is no such job; 0: it has ended."""
