"""Jobs in the orchestrator's own memory: submit, get, follow, cancel, answer now."""

import pytest
from jobs import REQUEST, comparable, follow, submit, wait_for_end
from stack import Stack, stack

from services.engines.scripted import ScriptedOptions

pytestmark = pytest.mark.anyio

STUCK = ScriptedOptions(token_seconds=30)


async def test_a_job_is_the_solve():
    """A job gives the same answer and account as a solve with its seed; the last event and the job hold the result."""
    async with stack() as running:
        solved = await running.solve(strategy=REQUEST["strategy"], sampling={"seed": 4})
        job = await submit(running.client)
        assert job["status"] == "queued"
        assert job["durable"] is False
        events = await follow(running.client, job["id"])
        ended = (await running.client.get(f"/jobs/{job['id']}")).json()
    assert ended["status"] == "succeeded"
    assert comparable(ended["result"]) == comparable(solved)
    assert [event["event_id"] for event in events] == [str(k + 1) for k in range(len(events))]
    assert all(event["solve_id"] == job["id"] and event["seq"] == int(event["event_id"]) for event in events)
    assert (events[0]["type"], events[-1]["type"]) == ("solve.started", "solve.finished")
    assert comparable(events[-1]["candidates"]) == comparable(solved["candidates"])


async def test_following_resumes_after_any_event():
    """`Last-Event-ID` resumes without loss or duplicates; after the last event the stream is empty."""
    async with stack() as running:
        job = (await submit(running.client))["id"]
        events = await follow(running.client, job)
        for cut in (1, len(events) // 2, len(events) - 1):
            assert await follow(running.client, job, after=str(cut)) == events[cut:]
        assert await follow(running.client, job, after=str(len(events))) == []


async def test_a_follower_may_leave_and_the_job_goes_on():
    """Unlike a solve, a job runs without a connected client."""
    async with stack(ScriptedOptions(token_seconds=0.002)) as running:
        job = (await submit(running.client))["id"]
        first = await follow(running.client, job, most=2)
        rest = await follow(running.client, job, after=first[-1]["event_id"])
        assert [event["seq"] for event in [*first, *rest]] == list(range(1, len(first) + len(rest) + 1))
        assert rest[-1]["type"] == "solve.finished"


async def test_the_same_key_is_the_same_job():
    """A key with the same body returns the same job; with another body it is refused."""
    async with stack() as running:
        first = await submit(running.client, key="one", sampling={})
        assert (await submit(running.client, key="one", sampling={}))["id"] == first["id"]
        second = await submit(running.client, key="two", sampling={})
        assert second["id"] != first["id"]
        other = await running.client.post("/jobs", json={**REQUEST, "problem": "x"}, headers={"Idempotency-Key": "one"})
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
        for job in (first, second):
            await wait_for_end(running.client, job["id"])
        calls = running.generations
        assert (await submit(running.client, key="one", sampling={}))["status"] == "succeeded"
        assert running.generations == calls


async def test_cancelling_stops_the_engine():
    """The job ends as cancelled; a second cancellation is refused."""
    async with stack(STUCK) as running:
        job = (await submit(running.client))["id"]
        await follow(running.client, job, most=2)
        assert (await running.client.delete(f"/jobs/{job}")).status_code == 202
        ended = await wait_for_end(running.client, job)
        assert (ended["status"], ended["error"]["code"]) == ("cancelled", "cancelled")
        assert running.actor.in_flight == 0
        again = await running.client.delete(f"/jobs/{job}")
        assert (again.status_code, again.json()["code"]) == (409, "job_finished")


async def test_answering_now_gives_the_incumbent():
    """With an incumbent, the job ends at once: the draft is the answer while the critic still works on it."""
    async with stack(critic=STUCK) as running:
        job = (await submit(running.client))["id"]
        await follow(running.client, job, until="candidate.finished")
        assert (await running.client.post(f"/jobs/{job}/answer-now")).status_code == 202
        ended = await wait_for_end(running.client, job)
        assert (ended["status"], ended["result"]["stop_reason"]) == ("succeeded", "answer_now")
        assert ended["result"]["solution"]
        assert running.critic.in_flight == 0


async def test_answering_now_waits_for_the_first_candidate():
    """Before there is a candidate, the command takes effect once there is one."""
    async with stack(ScriptedOptions(token_seconds=0.005), STUCK) as running:
        job = (await submit(running.client))["id"]
        assert (await running.client.post(f"/jobs/{job}/answer-now")).status_code == 202
        ended = await wait_for_end(running.client, job)
        assert (ended["status"], ended["result"]["stop_reason"]) == ("succeeded", "answer_now")


async def test_the_service_stops_while_a_job_runs():
    """It stops at once and the engines are idle."""
    async with stack(STUCK) as running:
        job = (await submit(running.client))["id"]
        await follow(running.client, job, most=2)
        assert running.actor.in_flight == 1
    assert running.actor.in_flight == 0


async def test_a_job_that_fails_holds_its_problem():
    """A failed job carries the problem that a solve would have answered with."""
    async with stack() as running:
        job = (await submit(running.client, budget={"max_tokens": 5}))["id"]
        ended = await wait_for_end(running.client, job)
        assert (ended["status"], ended["error"]["code"]) == ("failed", "budget_too_small")
        assert ended["error"]["needed"] > 5


async def test_bad_requests_are_refused():
    """An unknown job, a malformed `Last-Event-ID` and a malformed body each give their error."""
    async with stack() as running:
        await _refused(running, "GET", "/jobs/nothing", 404, "not_found")
        await _refused(running, "GET", "/jobs/nothing/events", 404, "not_found")
        await _refused(running, "DELETE", "/jobs/nothing", 404, "not_found")
        job = (await submit(running.client))["id"]
        for bad in ("x", "-1", "1.5", "9" * 30):
            await _refused(running, "GET", f"/jobs/{job}/events", 422, "invalid_request", {"Last-Event-ID": bad})
        unknown = await running.client.post("/jobs", json={**REQUEST, "unknown": 1})
        assert (unknown.status_code, unknown.json()["errors"][0]["loc"][-1]) == (422, "unknown")


async def _refused(
    running: Stack, method: str, path: str, status: int, code: str, headers: dict[str, str] | None = None
) -> None:
    response = await running.client.request(method, path, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
