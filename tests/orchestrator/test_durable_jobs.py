"""Jobs in a real Redis, run by worker processes that are killed, paused and disconnected."""

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
from jobs import comparable, follow, submit, wait_for_end
from redis_server import RedisServer, redis_server
from stack import Stack, stack

from services.engines.scripted import ScriptedOptions
from services.testing import wait_until

pytestmark = pytest.mark.anyio

SLOW = ScriptedOptions(token_seconds=0.02)
KILLS = 20
REQUESTS: tuple[dict[str, Any], ...] = (
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
    """A `counterpoint worker` process."""

    def __init__(self, running: Stack, redis: RedisServer) -> None:
        _, actor, critic = running.urls
        urls = {"JOB_LEASE_SECONDS": "1", "REDIS_URL": redis.url, "ACTOR_URL": actor, "CRITIC_URL": critic}
        env = {**os.environ, **{f"COUNTERPOINT_{name}": url for name, url in urls.items()}}
        self.process = subprocess.Popen([sys.executable, "-m", "counterpoint", "worker"], env=env)
        self.pid = self.process.pid

    def end(self, by: signal.Signals) -> int:
        """Send a signal that ends the process; return its exit code."""
        self.process.send_signal(by)
        return self.process.wait(20)


@contextmanager
def worker(running: Stack, redis: RedisServer) -> Generator[Worker]:
    """Start a worker; at the end, kill it if it still runs."""
    started = Worker(running, redis)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def in_flight(running: Stack) -> int:
    """Return the number of calls that the engines are computing."""
    return running.actor.in_flight + running.critic.in_flight


async def owner(running: Stack, jobs: list[str], among: set[int]) -> int:
    """Wait until one of the processes runs one of the jobs; return its process id."""
    with anyio.fail_after(30):
        while True:
            for job in jobs:
                shown = (await running.client.get(f"/jobs/{job}")).json()
                pid = int((shown["worker"] or "none:0").rpartition(":")[2])
                if shown["status"] == "running" and pid in among:
                    return pid
            await anyio.sleep(0.02)


def contents(events: list[dict[str, Any]]) -> list[str]:
    """Return the events as text in a fixed order, without their numbers, ids and spending so far."""
    bare = [comparable({k: v for k, v in event.items() if k not in {"seq", "event_id", "spent"}}) for event in events]
    return sorted(str(event) for event in bare)


async def undisturbed(requests: tuple[dict[str, Any], ...]) -> tuple[list[tuple[list[str], dict[str, Any]]], int]:
    """Run the jobs without a fault; return the events and the end of each, and the calls that engines finished for all."""
    async with stack() as running:
        outcomes: list[tuple[list[str], dict[str, Any]]] = []
        for request in requests:
            job = (await submit(running.client, **request))["id"]
            outcomes.append((contents(await follow(running.client, job)), await wait_for_end(running.client, job)))
        return outcomes, finished(running)


def finished(running: Stack) -> int:
    """Return the number of calls that an engine finished."""
    return sum(engine.generations - engine.aborted for engine in (running.actor, running.critic))


async def test_killing_workers_loses_nothing_and_pays_nothing_twice(tmp_path: Path):
    """Twenty kills at random moments leave the events, the account and the result of an undisturbed run.

    An engine finishes a call twice only if the worker died between the end of the call and its record.
    """
    expected, calls = await undisturbed(REQUESTS)
    chance = random.Random(20)
    cut = 0
    with redis_server(tmp_path) as redis, ExitStack() as workers:
        async with stack(SLOW, SLOW, redis_url=redis.url) as running:
            alive = [workers.enter_context(worker(running, redis)) for _ in range(2)]
            jobs = [(await submit(running.client, **request))["id"] for request in REQUESTS]
            for _ in range(KILLS):
                await wait_until(lambda: in_flight(running) > 0, seconds=30)
                await anyio.sleep(chance.uniform(0, 0.4))
                cut += in_flight(running)
                victim = await owner(running, jobs, {one.pid for one in alive})
                next(one for one in alive if one.pid == victim).end(signal.SIGKILL)
                alive = [one for one in alive if one.pid != victim] + [workers.enter_context(worker(running, redis))]
            for job, (expected_contents, result) in zip(jobs, expected, strict=True):
                events = await follow(running.client, job)
                ended = await wait_for_end(running.client, job)
                assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
                assert contents(events) == expected_contents
                assert comparable(ended["result"]) == comparable(result["result"])
            assert calls <= finished(running) <= calls + cut
            assert running.actor.aborted + running.critic.aborted > KILLS // 2


async def test_a_paused_worker_is_fenced_out(tmp_path: Path):
    """A worker paused beyond its lease loses the job to another one; when it resumes, its writes have no effect."""
    expected, _ = await undisturbed(REQUESTS[:1])
    with redis_server(tmp_path) as redis:
        async with stack(SLOW, SLOW, redis_url=redis.url) as running:
            with worker(running, redis) as one, worker(running, redis) as other:
                both = {one.pid, other.pid}
                job = (await submit(running.client, **REQUESTS[0]))["id"]
                await follow(running.client, job, most=4)
                first = await owner(running, [job], both)
                os.kill(first, signal.SIGSTOP)
                second = await owner(running, [job], both - {first})
                os.kill(first, signal.SIGCONT)
                events = await follow(running.client, job)
                assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
                assert contents(events) == expected[0][0]
                ended = await wait_for_end(running.client, job)
                assert comparable(ended["result"]) == comparable(expected[0][1]["result"])
                assert ended["worker"].endswith(f":{second}")
                os.kill(second, signal.SIGSTOP)
                again = (await submit(running.client, **REQUESTS[0]))["id"]
                assert await owner(running, [again], both) == first
                os.kill(second, signal.SIGCONT)


async def test_redis_is_killed_and_comes_back(tmp_path: Path):
    """Workers wait for Redis, and followers resume where they were."""
    expected, _ = await undisturbed(REQUESTS[:1])
    with redis_server(tmp_path) as redis:
        async with stack(SLOW, SLOW, redis_url=redis.url) as running:
            with worker(running, redis):
                job = (await submit(running.client, **REQUESTS[0]))["id"]
                events = await follow(running.client, job, most=5)
                redis.kill()
                refused = await running.client.post("/jobs", json={"problem": "x"})
                assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
                assert int(refused.headers["retry-after"]) >= 1
                await running.solve(strategy="single")
                redis.start()
                events += await follow(running.client, job, after=events[-1]["event_id"])
                assert contents(events) == expected[0][0]
                ended = await wait_for_end(running.client, job)
                assert comparable(ended["result"]) == comparable(expected[0][1]["result"])


async def test_a_terminated_worker_hands_over(tmp_path: Path):
    """On SIGTERM it exits cleanly, and the next worker continues its job."""
    expected, _ = await undisturbed(REQUESTS[:1])
    with redis_server(tmp_path) as redis:
        async with stack(SLOW, SLOW, redis_url=redis.url) as running:
            job = (await submit(running.client, **REQUESTS[0]))["id"]
            with worker(running, redis) as first:
                events = await follow(running.client, job, most=6)
                assert first.end(signal.SIGTERM) == 0
            await wait_until(lambda: in_flight(running) == 0)
            assert (await running.client.get(f"/jobs/{job}")).json()["status"] == "running"
            with worker(running, redis):
                events += await follow(running.client, job, after=events[-1]["event_id"])
            assert contents(events) == expected[0][0]


async def test_the_deadline_holds_across_workers(tmp_path: Path):
    """The deadline counts from the job's first start; a worker that takes over after it answers from the journal."""
    slow = ScriptedOptions(token_seconds=0.02)
    with redis_server(tmp_path) as redis:
        async with stack(ScriptedOptions(), slow, redis_url=redis.url) as running:
            job = (await submit(running.client, strategy=REQUESTS[0]["strategy"], budget={"max_seconds": 3}))["id"]
            with worker(running, redis) as first:
                await follow(running.client, job, until="candidate.finished")
                first.end(signal.SIGKILL)
            with worker(running, redis):
                ended = await wait_for_end(running.client, job)
            assert (ended["status"], ended["result"]["stop_reason"]) == ("succeeded", "deadline")
            assert ended["result"]["solution"]


async def test_a_queued_job_is_cancelled_at_once(tmp_path: Path):
    """Cancelling a job that no worker has claimed needs no worker."""
    with redis_server(tmp_path) as redis:
        async with stack(redis_url=redis.url) as running:
            job = await submit(running.client)
            assert job["durable"] is True
            assert (await running.client.delete(f"/jobs/{job['id']}")).json()["status"] == "cancelled"
            (event,) = await follow(running.client, job["id"])
            assert (event["type"], event["code"], event["seq"]) == ("solve.failed", "cancelled", 1)
            with worker(running, redis):
                other = (await submit(running.client))["id"]
                assert (await wait_for_end(running.client, other))["status"] == "succeeded"
            assert (await running.client.get(f"/jobs/{job['id']}")).json()["status"] == "cancelled"


async def test_results_expire(tmp_path: Path):
    """After its TTL nothing of a job is left in Redis."""
    with redis_server(tmp_path) as redis:
        async with stack(redis_url=redis.url, job_ttl_seconds=1) as running:
            job = await submit(running.client)
            await running.client.delete(f"/jobs/{job['id']}")
            await wait_until(lambda: not redis.keys(f"counterpoint:*{job['id']}*"))
            gone = await running.client.get(f"/jobs/{job['id']}/events")
            assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


async def test_an_orchestrator_starts_without_its_redis():
    """Jobs are refused, and solves work."""
    async with stack(redis_url="redis://127.0.0.1:9/0") as running:
        refused = await running.client.post("/jobs", json={"problem": "x"})
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        await running.solve(strategy="single")
