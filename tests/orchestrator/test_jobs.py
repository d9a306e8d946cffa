"""Jobs in the orchestrator's own memory: submit, look, follow, cancel, answer now."""

import pytest
from jobs import ASK, ended, followed, submit, timeless
from stack import Stack, stack

from services.engines.scripted import ScriptedOptions

pytestmark = pytest.mark.anyio

FOREVER = ScriptedOptions(token_seconds=30)


async def test_a_job_is_the_solve():
    """The same seed gives the same answer, account and events; the last event and the job hold the result."""
    async with stack() as running:
        solved = await running.solve(strategy=ASK["strategy"], sampling={"seed": 4})
        job = await submit(running.client)
        assert job["status"] == "queued"
        assert job["durable"] is False
        events = await followed(running.client, job["id"])
        found = (await running.client.get(f"/jobs/{job['id']}")).json()
    assert found["status"] == "succeeded"
    assert timeless(found["result"]) == timeless(solved)
    assert [event["event_id"] for event in events] == [str(k + 1) for k in range(len(events))]
    assert all(event["solve_id"] == job["id"] and event["seq"] == int(event["event_id"]) for event in events)
    assert (events[0]["type"], events[-1]["type"]) == ("solve.started", "solve.finished")
    assert timeless(events[-1]["candidates"]) == timeless(solved["candidates"])


async def test_following_goes_on_after_any_event():
    """Without loss and without duplicates; after the last there is nothing."""
    async with stack() as running:
        job = (await submit(running.client))["id"]
        events = await followed(running.client, job)
        for cut in (1, len(events) // 2, len(events) - 1):
            assert await followed(running.client, job, after=str(cut)) == events[cut:]
        assert await followed(running.client, job, after=str(len(events))) == []


async def test_a_follower_may_leave_and_the_job_goes_on():
    """Unlike a solve: nobody has to listen."""
    async with stack(ScriptedOptions(token_seconds=0.002)) as running:
        job = (await submit(running.client))["id"]
        first = await followed(running.client, job, most=2)
        rest = await followed(running.client, job, after=first[-1]["event_id"])
        assert [event["seq"] for event in [*first, *rest]] == list(range(1, len(first) + len(rest) + 1))
        assert rest[-1]["type"] == "solve.finished"


async def test_the_same_key_is_the_same_job():
    """With the same body; another body under it is refused."""
    async with stack() as running:
        first = await submit(running.client, key="one", sampling={})
        assert (await submit(running.client, key="one", sampling={}))["id"] == first["id"]
        second = await submit(running.client, key="two", sampling={})
        assert second["id"] != first["id"]
        other = await running.client.post("/jobs", json={**ASK, "problem": "x"}, headers={"Idempotency-Key": "one"})
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
        for job in (first, second):
            await ended(running.client, job["id"])
        calls = running.generations
        assert (await submit(running.client, key="one", sampling={}))["status"] == "succeeded"
        assert running.generations == calls


async def test_cancelling_stops_the_engine():
    """The job ends as cancelled; wishing again is refused."""
    async with stack(FOREVER) as running:
        job = (await submit(running.client))["id"]
        await followed(running.client, job, most=2)
        assert (await running.client.delete(f"/jobs/{job}")).status_code == 202
        found = await ended(running.client, job)
        assert (found["status"], found["error"]["code"]) == ("cancelled", "cancelled")
        assert running.actor.in_flight == 0
        again = await running.client.delete(f"/jobs/{job}")
        assert (again.status_code, again.json()["code"]) == (409, "job_finished")


async def test_answering_now_gives_the_incumbent():
    """Where there is one: the draft, while its refinement or its judgement is still at work."""
    async with stack(critic=FOREVER) as running:
        job = (await submit(running.client))["id"]
        await followed(running.client, job, until="candidate.finished")
        assert (await running.client.post(f"/jobs/{job}/answer-now")).status_code == 202
        found = await ended(running.client, job)
        assert (found["status"], found["result"]["stop_reason"]) == ("succeeded", "answer_now")
        assert found["result"]["solution"]
        assert running.critic.in_flight == 0


async def test_answering_now_waits_for_the_first_candidate():
    """Before there is any, the wish is remembered."""
    async with stack(ScriptedOptions(token_seconds=0.005), FOREVER) as running:
        job = (await submit(running.client))["id"]
        assert (await running.client.post(f"/jobs/{job}/answer-now")).status_code == 202
        found = await ended(running.client, job)
        assert (found["status"], found["result"]["stop_reason"]) == ("succeeded", "answer_now")


async def test_the_service_ends_while_a_job_runs():
    """At once, and the engines are free."""
    async with stack(FOREVER) as running:
        job = (await submit(running.client))["id"]
        await followed(running.client, job, most=2)
        assert running.actor.in_flight == 1
    assert running.actor.in_flight == 0


async def test_a_job_that_fails_holds_its_problem():
    """As a solve would have answered it."""
    async with stack() as running:
        job = (await submit(running.client, budget={"max_tokens": 5}))["id"]
        found = await ended(running.client, job)
        assert (found["status"], found["error"]["code"]) == ("failed", "budget_too_small")
        assert found["error"]["needed"] > 5


async def test_what_is_refused():
    """A job that is not there, a bad place to go on from, a bad body, a bad key."""
    async with stack() as running:
        await _refused(running, "GET", "/jobs/nothing", 404, "not_found")
        await _refused(running, "GET", "/jobs/nothing/events", 404, "not_found")
        await _refused(running, "DELETE", "/jobs/nothing", 404, "not_found")
        job = (await submit(running.client))["id"]
        for bad in ("x", "-1", "1.5", "9" * 30):
            await _refused(running, "GET", f"/jobs/{job}/events", 422, "invalid_request", {"Last-Event-ID": bad})
        unknown = await running.client.post("/jobs", json={**ASK, "unknown": 1})
        assert (unknown.status_code, unknown.json()["errors"][0]["loc"][-1]) == (422, "unknown")


async def _refused(
    running: Stack, method: str, path: str, status: int, code: str, headers: dict[str, str] | None = None
) -> None:
    response = await running.client.request(method, path, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
