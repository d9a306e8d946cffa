"""The orchestrator's metrics of solves, candidates, calls and jobs, read from `/metrics` as Prometheus reads them."""

import math
import re
import shutil
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest
from jobs import submit, wait_for_end
from prometheus_client.parser import text_string_to_metric_families
from redis_server import redis_server
from stack import Stack, stack
from test_pipelining import ABORT, SLOW, STRICT, always_right

import orchestrator.app
from counterpoint.supervisor import free_port
from orchestrator.settings import OrchestratorSettings
from services.engines.scripted import ScriptedOptions, fixed
from services.testing import wait_until

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
RIGHT = ScriptedOptions(script=always_right)
LABELS = {
    *("strategy", "stop_reason", "role", "verb", "outcome", "kind", "how", "limit", "code", "finish_reason", "verdict"),
    *("vote", "original", "refined", "status", "route", "method", "le", "depth", "implementation", "major", "minor"),
    *("patchlevel", "version"),
}
"""The names of all labels; none of them identifies a person, a key, a job or a problem."""


async def metric(client: httpx.AsyncClient, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples that have these labels. Raises `LookupError` if there are none."""
    text = (await client.get("/metrics")).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    values = [s.value for s in samples if s.name == f"counterpoint_{name}" and labels.items() <= s.labels.items()]
    if not values:
        raise LookupError(f"there is no {name} {labels}")
    return sum(values)


async def test_failures_are_exported_as_0_from_the_start():
    """A rate then sees the first failure, since its series exists before the first solve."""
    async with stack() as running:
        for code in ("critic_unavailable", "usage_unknown", "critique_unparsable"):
            assert await metric(running.client, "degraded_total", code=code) == 0
        for reason in ("accepted", "budget", "actor_failed", "internal_error", "cancelled"):
            assert await metric(running.client, "solves_total", strategy="refine", stop_reason=reason) == 0
        assert await metric(running.client, "calls_total", verb="critique", outcome="failed") == 0
        assert await metric(running.client, "in_flight_limit") == 512


async def test_an_early_agreement_saves_the_samples_that_were_not_drawn():
    """All samples have the same length here, so the estimate is exact."""
    async with stack(RIGHT, STRICT) as running:
        result = await running.solve(strategy={"name": "best_of_n", "n": 16, "select": "majority"})
        assert result["stop_reason"] == "agreed"
        taken = {candidate["completion_tokens"] for candidate in result["candidates"]}
        saved = 16 * taken.pop() - result["usage"]["actor"]["completion_tokens"]
        assert not taken
        assert await metric(running.client, "tokens_saved_total", how="agreed") == saved > 0
        assert await metric(running.client, "verdicts_total", verdict="unjudged") == len(result["candidates"])


async def test_verdicts_are_compared_with_the_vote():
    """Every judged candidate of a vote with a majority counts once, under its verdict."""
    async with stack(RIGHT, STRICT) as running:
        vote = {"name": "best_of_n", "n": 3, "select": "weighted", "depth": "verdict", "stop_early": False}
        await running.solve(strategy=vote)
        assert await metric(running.client, "critic_agreement_total", verdict="correct", vote="majority") == 3
        assert await metric(running.client, "critic_agreement_total") == 3
        await running.solve(strategy="refine")
        assert await metric(running.client, "critic_agreement_total") == 3


async def test_an_aborted_draft_and_its_refinement_are_counted():
    """The draft counts as cancelled and saves the tokens that it lacks; its refinement counts as rejected, then accepted."""
    async with stack(SLOW, STRICT) as running:
        result = await running.solve(strategy=ABORT, sampling={"seed": 1})
        draft, refined = result["candidates"]
        assert result["stop_reason"] == "accepted"
        assert await metric(running.client, "candidates_total", finish_reason="cancelled") == 1
        assert await metric(running.client, "candidates_total", finish_reason="stop") == 1
        assert await metric(running.client, "refinements_total", original="rejected", refined="accepted") == 1
        assert await metric(running.client, "refinements_total") == 1
        lacking = max(0, refined["completion_tokens"] - draft["completion_tokens"])
        assert await metric(running.client, "tokens_saved_total", how="aborted") == lacking


async def test_overhead_is_the_time_without_an_open_call():
    """It excludes the wait for a slow engine, however many calls wait side by side."""
    async with stack(ScriptedOptions(script=always_right, first_token_seconds=0.4)) as running:
        await running.solve(strategy={"name": "best_of_n", "n": 4, "stop_early": False})
        took = await metric(running.client, "solve_seconds_sum", strategy="best_of_n")
        ours = await metric(running.client, "overhead_seconds_sum")
        assert took >= 0.4
        assert 0 < ours <= took - 0.4
        assert await metric(running.client, "call_seconds_sum", verb="draft") >= 0.4
        calls = await metric(running.client, "calls_total", outcome="ok")
        assert await metric(running.client, "call_seconds_count") == calls == 5


async def test_a_solve_counts_as_degraded_once_per_code():
    """The critic counts each critique that could not be parsed."""
    async with stack(critic=ScriptedOptions(garbage_rate=1.0)) as running:
        result = await running.solve(strategy={"name": "best_of_n", "n": 3})
        assert len(result["degraded"]) == 3
        assert await metric(running.client, "degraded_total", code="critique_unparsable") == 1
        async with httpx.AsyncClient(base_url=running.urls[2]) as critic:
            assert await metric(critic, "critic_unparsable_total", depth="labels") == 3
            assert await metric(critic, "critic_verdicts_total", depth="labels", verdict="unsure") == 3


async def test_a_call_that_is_sent_again_counts_as_retried():
    """An unreachable critic is retried twice, and the solve is degraded."""
    async with stack(without="critic") as running:
        await running.solve(strategy="refine")
        assert await metric(running.client, "retries_total", role="critic") == 2
        assert await metric(running.client, "retries_total", role="actor") == 0
        assert await metric(running.client, "degraded_total", code="critic_unavailable") == 1


async def test_a_nearly_reached_limit_is_counted():
    """A warning counts under its limit, once per solve."""
    async with stack(ScriptedOptions(script=fixed("The answer is \\boxed{1}."))) as running:
        await running.solve(budget={"max_calls": 2})
        assert await metric(running.client, "budget_warnings_total", limit="max_calls") == 1


async def test_solves_without_an_answer_count_by_their_cause():
    """An error counts under its code and a disconnect as cancelled; neither solve stays in flight."""
    async with stack(ScriptedOptions(failure_rate=1.0)) as running:
        assert (await running.client.post("/solve", json={"problem": "Add 1 and 2."})).status_code == 502
        assert await metric(running.client, "solves_total", strategy="refine", stop_reason="actor_failed") == 1
    async with stack(ScriptedOptions(token_seconds=30)) as running:
        with anyio.move_on_after(0.3):
            await running.solve(strategy="single")
        with anyio.fail_after(5):
            while not await metric(running.client, "solves_total", strategy="single", stop_reason="cancelled"):
                await anyio.lowlevel.checkpoint()
        assert await metric(running.client, "in_flight") == 0


async def test_running_jobs_are_counted():
    """A job counts as running until it has ended."""
    async with stack(ScriptedOptions(token_seconds=30)) as running:
        assert await metric(running.client, "jobs", status="running") == 0
        job = (await submit(running.client))["id"]
        await wait_until(lambda: running.actor.generations > 0)
        assert await metric(running.client, "jobs", status="running") == 1
        assert await metric(running.client, "jobs", status="queued") == 0
        await running.client.delete(f"/jobs/{job}")
        await wait_for_end(running.client, job)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
async def test_queued_jobs_are_counted(tmp_path: Path):
    """Without a worker, jobs stay queued in Redis; while Redis is unreachable, their number is NaN."""
    with redis_server(tmp_path) as redis:
        async with stack(redis_url=redis.url) as running:
            for _ in range(3):
                await submit(running.client)
            assert await metric(running.client, "jobs", status="queued") == 3
            assert await metric(running.client, "jobs", status="running") == 0
            redis.kill()
            assert math.isnan(await metric(running.client, "jobs", status="queued"))
            redis.start()


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
async def test_a_worker_exports_the_solves_that_it_runs(tmp_path: Path):
    """It serves its metrics and its health on a port of its own."""
    with redis_server(tmp_path) as redis:
        port = free_port(after=redis.port)
        async with stack(redis_url=redis.url) as running, anyio.create_task_group() as group:
            urls = {"actor_url": running.urls[1], "critic_url": running.urls[2], "redis_url": redis.url}
            settings = OrchestratorSettings.load(port=port, **urls)
            group.start_soon(partial(orchestrator.app.work, settings, exposed=True))
            job = (await submit(running.client))["id"]
            assert (await wait_for_end(running.client, job))["status"] == "succeeded"
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as worker:
                assert await metric(worker, "solves_total", strategy="refine") == 1
                assert await metric(running.client, "solves_total", strategy="refine") == 0
                assert (await worker.get("/readyz")).json() == {"ready": True, "checks": {"redis": "ok"}}
            group.cancel_scope.cancel()


async def test_no_label_holds_what_a_client_chose():
    """Unusual paths, models, ids and problems create no series."""
    async with stack() as running:
        await send_unusual_requests(running)
        await series(running)
        before = await series(running)
        await send_unusual_requests(running)
        assert await series(running) == before
        labels = {name for line in before for name in re.findall(r'(\w+)="', line)}
        assert labels <= LABELS
        assert not [line for line in before if "oddity" in line]


async def send_unusual_requests(running: Stack) -> None:
    """Send requests full of unusual names."""
    client = running.client
    await running.solve(problem="Add 1 and 2, oddity.", sampling={"seed": 1})
    await client.get("/oddity", headers={"X-Request-ID": "oddity"})
    await client.request("ODDITY", "/solve")
    await client.get("/jobs/oddity")
    await client.post("/jobs", json={"problem": "1"}, headers={"Idempotency-Key": "oddity"})
    await client.post("/v1/chat/completions", json={"model": "oddity", "messages": [], "user": "oddity"})
    await client.post("/solve", json={"problem": "x", "strategy": "oddity"})


async def series(running: Stack) -> set[str]:
    """Return the names and labels of all samples."""
    lines = [line for url in running.urls for line in (await _text(url)).splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0] for line in lines}


async def _text(url: str) -> str:
    async with httpx.AsyncClient(base_url=url) as client:
        return (await client.get("/metrics")).text


async def test_every_metric_is_documented():
    """`docs/operations.md` describes every metric under its name, and no other."""
    manual = (ROOT / "docs/operations.md").read_text("utf-8")
    described = set(re.findall(r"^\| `(counterpoint_\w+?)(?:\{[\w,]*\})?` \|", manual, re.MULTILINE))
    async with stack() as running:
        lines = "\n".join([await _text(url) for url in running.urls])
    exported = {name for name in re.findall(r"^# TYPE (counterpoint_\w+) ", lines, re.MULTILINE) if name[-8:] != "_created"}
    replicas = {name for name in described if name.startswith("counterpoint_replica_")}
    assert described - replicas == exported
    assert len(replicas) == 3
