"""Jobs in a real Redis, run by worker processes that are killed, stopped and cut off."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from jobs import ended, followed, submit, timeless
from redis_server import RedisServer, redis_server
from stack import Stack, stack

from services.engines.scripted import ScriptedOptions
from services.testing import wait_until

pytestmark = pytest.mark.anyio

SLOW = ScriptedOptions(token_seconds=0.02)
KILLS = 20
ASKS: tuple[dict[str, Any], ...] = (
    {"strategy": {"name": "refine", "rounds": 6, "gate": False}},
    {
        "strategy": {
            "name": "best_of_n",
            "n": 3,
            "inner": {"name": "refine", "rounds": 2, "gate": False},
            "stop_early": False,
        }
    },
    {"strategy": {"name": "refine", "rounds": 4, "gate": False, "mode": "rewind", "gate_depth": "explain"}},
    {"strategy": {"name": "best_of_n", "n": 6, "depth": "explain", "select": "weighted", "stop_early": False}},
)


class Worker:
    """`counterpoint worker`, as a process."""

    def __init__(self, running: Stack, redis: RedisServer) -> None:
        _, actor, critic = running.urls
        urls = {"JOB_LEASE_SECONDS": "1", "REDIS_URL": redis.url, "ACTOR_URL": actor, "CRITIC_URL": critic}
        env = {**os.environ, **{f"COUNTERPOINT_{name}": url for name, url in urls.items()}}
        self.process = subprocess.Popen([sys.executable, "-m", "counterpoint", "worker"], env=env)
        self.pid = self.process.pid

    def end(self, how: signal.Signals) -> int:
        """Send a signal that ends it; its exit code."""
        self.process.send_signal(how)
        return self.process.wait(20)


@contextmanager
def worker(running: Stack, redis: RedisServer) -> Generator[Worker]:
    """A worker, which is killed in the end if it still runs."""
    found = Worker(running, redis)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait()


def in_flight(running: Stack) -> int:
    """Calls that engines compute."""
    return running.actor.in_flight + running.critic.in_flight


async def owner(running: Stack, jobs: list[str], among: set[int]) -> int:
    """The process that runs one of these jobs, once one of these processes does."""
    with anyio.fail_after(30):
        while True:
            for job in jobs:
                found = (await running.client.get(f"/jobs/{job}")).json()
                pid = int((found["worker"] or "nobody:0").rpartition(":")[2])
                if found["status"] == "running" and pid in among:
                    return pid
            await anyio.sleep(0.02)


def said(events: list[dict[str, Any]]) -> list[str]:
    """What events tell, in a fixed order, without numbers, ids and spending so far."""
    bare = [timeless({k: v for k, v in event.items() if k not in {"seq", "event_id", "spent"}}) for event in events]
    return sorted(str(event) for event in bare)


async def undisturbed(asks: tuple[dict[str, Any], ...]) -> tuple[list[tuple[list[str], dict[str, Any]]], int]:
    """What each job tells and ends with when nothing happens to it, and the calls that engines finished for all."""
    async with stack() as running:
        found: list[tuple[list[str], dict[str, Any]]] = []
        for ask in asks:
            job = (await submit(running.client, **ask))["id"]
            found.append((said(await followed(running.client, job)), await ended(running.client, job)))
        return found, finished(running)


def finished(running: Stack) -> int:
    """Calls that an engine brought to their end."""
    return sum(engine.generations - engine.aborted for engine in (running.actor, running.critic))


async def test_killing_workers_loses_nothing_and_pays_nothing_twice(tmp_path: Path):
    """Twenty times at random moments, two workers, four strategies: the events, the account and the result of a quiet run.

    An engine finishes a call twice only if its worker died between the end of the call and its record.
    """
    expected, calls = await undisturbed(ASKS)
    chance = random.Random(20)
    cut = 0
    with redis_server(tmp_path) as redis, ExitStack() as workers:
        async with stack(SLOW, SLOW, redis_url=redis.url) as running:
            alive = [workers.enter_context(worker(running, redis)) for _ in range(2)]
            jobs = [(await submit(running.client, **ask))["id"] for ask in ASKS]
            for _ in range(KILLS):
                await wait_until(lambda: in_flight(running) > 0, seconds=30)
                await anyio.sleep(chance.uniform(0, 0.4))
                cut += in_flight(running)
                victim = await owner(running, jobs, {one.pid for one in alive})
                next(one for one in alive if one.pid == victim).end(signal.SIGKILL)
                alive = [one for one in alive if one.pid != victim] + [workers.enter_context(worker(running, redis))]
            for job, (events, result) in zip(jobs, expected, strict=True):
                heard = await followed(running.client, job)
                found = await ended(running.client, job)
                assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1))
                assert said(heard) == events
                assert timeless(found["result"]) == timeless(result["result"])
            assert calls <= finished(running) <= calls + cut
            assert running.actor.aborted + running.critic.aborted > KILLS // 2


async def test_a_stopped_worker_is_fenced_out(tmp_path: Path):
    """It sleeps through its lease; another one takes over; when it wakes, nothing that it writes counts."""
    expected, _ = await undisturbed(ASKS[:1])
    with redis_server(tmp_path) as redis:
        async with stack(SLOW, SLOW, redis_url=redis.url) as running:
            with worker(running, redis) as one, worker(running, redis) as other:
                both = {one.pid, other.pid}
                job = (await submit(running.client, **ASKS[0]))["id"]
                await followed(running.client, job, most=4)
                first = await owner(running, [job], both)
                os.kill(first, signal.SIGSTOP)
                second = await owner(running, [job], both - {first})
                os.kill(first, signal.SIGCONT)
                heard = await followed(running.client, job)
                assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1))
                assert said(heard) == expected[0][0]
                found = await ended(running.client, job)
                assert timeless(found["result"]) == timeless(expected[0][1]["result"])
                assert found["worker"].endswith(f":{second}")
                os.kill(second, signal.SIGSTOP)
                again = (await submit(running.client, **ASKS[0]))["id"]
                assert await owner(running, [again], both) == first
                os.kill(second, signal.SIGCONT)


async def test_redis_is_killed_and_comes_back(tmp_path: Path):
    """Its workers wait for it, and followers go on where they were."""
    expected, _ = await undisturbed(ASKS[:1])
    with redis_server(tmp_path) as redis:
        async with stack(SLOW, SLOW, redis_url=redis.url) as running:
            with worker(running, redis):
                job = (await submit(running.client, **ASKS[0]))["id"]
                heard = await followed(running.client, job, most=5)
                redis.kill()
                refused = await running.client.post("/jobs", json={"problem": "x"})
                assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
                assert int(refused.headers["retry-after"]) >= 1
                await running.solve(strategy="single")
                redis.start()
                heard += await followed(running.client, job, after=heard[-1]["event_id"])
                assert said(heard) == expected[0][0]
                assert timeless((await ended(running.client, job))["result"]) == timeless(expected[0][1]["result"])


async def test_a_worker_that_is_told_to_end_hands_over(tmp_path: Path):
    """It exits cleanly and the next one goes on."""
    expected, _ = await undisturbed(ASKS[:1])
    with redis_server(tmp_path) as redis:
        async with stack(SLOW, SLOW, redis_url=redis.url) as running:
            job = (await submit(running.client, **ASKS[0]))["id"]
            with worker(running, redis) as first:
                heard = await followed(running.client, job, most=6)
                assert first.end(signal.SIGTERM) == 0
            await wait_until(lambda: in_flight(running) == 0)
            assert (await running.client.get(f"/jobs/{job}")).json()["status"] == "running"
            with worker(running, redis):
                heard += await followed(running.client, job, after=heard[-1]["event_id"])
            assert said(heard) == expected[0][0]


async def test_the_deadline_holds_across_workers(tmp_path: Path):
    """It counts from the job's first beginning: what was finished before it is the answer after it."""
    slow = ScriptedOptions(token_seconds=0.02)
    with redis_server(tmp_path) as redis:
        async with stack(ScriptedOptions(), slow, redis_url=redis.url) as running:
            job = (await submit(running.client, strategy=ASKS[0]["strategy"], budget={"max_seconds": 3}))["id"]
            with worker(running, redis) as first:
                await followed(running.client, job, until="candidate.finished")
                first.end(signal.SIGKILL)
            with worker(running, redis):
                found = await ended(running.client, job)
            assert (found["status"], found["result"]["stop_reason"]) == ("succeeded", "deadline")
            assert found["result"]["solution"]


async def test_a_job_that_nobody_has_begun_is_cancelled_at_once(tmp_path: Path):
    """No worker is needed for that."""
    with redis_server(tmp_path) as redis:
        async with stack(redis_url=redis.url) as running:
            job = await submit(running.client)
            assert job["durable"] is True
            assert (await running.client.delete(f"/jobs/{job['id']}")).json()["status"] == "cancelled"
            (event,) = await followed(running.client, job["id"])
            assert (event["type"], event["code"], event["seq"]) == ("solve.failed", "cancelled", 1)
            with worker(running, redis):
                other = (await submit(running.client))["id"]
                assert (await ended(running.client, other))["status"] == "succeeded"
            assert (await running.client.get(f"/jobs/{job['id']}")).json()["status"] == "cancelled"


async def test_results_expire(tmp_path: Path):
    """After their TTL nothing of a job is left in Redis."""
    with redis_server(tmp_path) as redis:
        async with stack(redis_url=redis.url, job_ttl_seconds=1) as running:
            job = await submit(running.client)
            await running.client.delete(f"/jobs/{job['id']}")
            await wait_until(lambda: not redis.keys(f"counterpoint:*{job['id']}*"))
            gone = await running.client.get(f"/jobs/{job['id']}/events")
            assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


async def test_an_orchestrator_starts_without_its_redis():
    """Jobs are refused, solving goes on."""
    async with stack(redis_url="redis://127.0.0.1:9/0") as running:
        refused = await running.client.post("/jobs", json={"problem": "x"})
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        await running.solve(strategy="single")
