"""Keys, rates, quotas and the admission queue, through the running service; on Redis and in memory."""

from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from docket import Docket
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_server import RedisServer, redis_server
from stack import Stack, stack

from orchestrator.access import Keys, Tenant, TenantQuotas, digest, generate_key
from orchestrator.access.quotas import count_request
from services.call_context import new_id
from services.contracts.solve import Budget
from services.engines.scripted import ScriptedOptions
from services.errors import QuotaExhausted
from services.testing import wait_until

pytestmark = pytest.mark.anyio

REQUEST = {"problem": "Add 12 and 30 and 7.", "strategy": "single", "sampling": {"seed": 4}}
CHAT = {"model": "counterpoint-single", "messages": [{"role": "user", "content": "Add 1 and 2."}]}
OPEN = ("/", "/strategies", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/static/main.js")


@pytest.fixture(params=["memory", "redis"])
def redis(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[RedisServer | None]:
    """The Redis server that counts limits, or None where memory does."""
    with ExitStack() as opened:
        yield opened.enter_context(redis_server(tmp_path)) if request.param == "redis" else None


@asynccontextmanager
async def stack_with_keys(
    tmp_path: Path, redis: RedisServer | None = None, critic: ScriptedOptions | None = None, **limits: float
) -> AsyncGenerator[tuple[Stack, dict[str, dict[str, str]]]]:
    """Run the stack with a key for each of two tenants, the first with `limits`; yield it with the header of each key."""
    keys = {name: generate_key() for name in ("physics", "other")}
    entries = [f'[[keys]]\ntenant = "{name}"\nsha256 = "{digest(key)}"' for name, key in keys.items()]
    entries[0] += "".join(f"\n{name} = {value}" for name, value in limits.items())
    path = tmp_path / "keys.toml"
    path.write_text("\n".join(entries), "utf-8")
    url = None if redis is None else redis.url
    async with stack(critic=critic, keys_file=path, redis_url=url) as running:
        yield running, {name: {"Authorization": f"Bearer {key}"} for name, key in keys.items()}


async def post_solve(running: Stack, headers: dict[str, str], **fields: Any) -> httpx.Response:
    """Send `POST /solve`."""
    return await running.client.post("/solve", json={**REQUEST, **fields}, headers=headers)


async def test_routes_that_cost_something_require_a_key(tmp_path: Path):
    """Without a known key they answer 401 in the format of their API, and call no engine; all other routes stay open."""
    async with stack_with_keys(tmp_path) as (running, headers):
        for wrong in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": headers["physics"]["Authorization"][7:]}):
            refused = await post_solve(running, wrong)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
            assert refused.headers["www-authenticate"] == "Bearer"
            for method, path in (("POST", "/jobs"), ("GET", "/jobs/x"), ("DELETE", "/jobs/x"), ("GET", "/jobs/x/events")):
                assert (await running.client.request(method, path, headers=wrong)).status_code == 401
            chat = await running.client.post("/v1/chat/completions", json=CHAT, headers=wrong)
            assert (chat.status_code, chat.json()["error"]["type"]) == (401, "authentication_error")
        assert running.generations == 0
        for path in OPEN:
            assert (await running.client.get(path)).status_code == 200, path
        assert (await post_solve(running, headers["physics"])).status_code == 200
        chat = await running.client.post("/v1/chat/completions", json=CHAT, headers=headers["other"])
        assert chat.status_code == 200


async def test_a_rate_is_enforced(tmp_path: Path, redis: RedisServer | None):
    """After a burst, requests are refused with the limit and a `Retry-After`; other tenants are not affected."""
    async with stack_with_keys(tmp_path, redis, requests_per_minute=6, burst=3) as (running, headers):
        responses = [await post_solve(running, headers["physics"]) for _ in range(5)]
        assert [response.status_code for response in responses] == [200, 200, 200, 429, 429]
        problem = responses[3].json()
        limit = problem["limit"]
        assert (problem["code"], limit["name"], limit["value"]) == ("rate_limited", "requests_per_minute", 6)
        assert 1 <= int(responses[3].headers["retry-after"]) <= 10
        chat = await running.client.post("/v1/chat/completions", json=CHAT, headers=headers["physics"])
        assert (chat.status_code, chat.json()["error"]["type"]) == (429, "rate_limit_error")
        assert (await post_solve(running, headers["other"])).status_code == 200


async def test_a_quota_is_exact(tmp_path: Path, redis: RedisServer | None):
    """Spending is counted to the token; a solve's limit is what is left of the quota, and without any left it is refused."""
    async with stack_with_keys(tmp_path, redis, tokens_per_day=1_000) as (running, headers):
        first = (await post_solve(running, headers["physics"])).json()
        assert first["budget"]["limits"]["max_tokens"] == 1_000
        spent = first["usage"]["total_tokens"]
        second = (await post_solve(running, headers["physics"])).json()
        assert second["budget"]["limits"]["max_tokens"] == 1_000 - spent
        spent += second["usage"]["total_tokens"]
        failing = await post_solve(running, headers["physics"], budget={"max_tokens": 3})
        assert failing.json()["code"] == "budget_too_small"
        while (response := await post_solve(running, headers["physics"])).status_code == 200:
            spent += response.json()["usage"]["total_tokens"]
        assert spent <= 1_000
        assert response.json()["code"] in {"budget_too_small", "quota_exhausted"}
        assert sum(running.engine_tokens()) == spent
        assert (await post_solve(running, headers["other"])).status_code == 200


async def test_reserved_tokens_cannot_be_spent_twice(tmp_path: Path, redis: RedisServer | None):
    """While one solve has reserved the whole quota, a second one is refused at once; a disconnect frees the reservation."""
    slow = ScriptedOptions(token_seconds=30)
    critiqued = {"strategy": {"name": "refine", "gate_depth": "explain"}}
    async with stack_with_keys(tmp_path, redis, slow, tokens_per_day=64_000) as (running, headers):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: post_solve(running, headers["physics"], **critiqued))
            await wait_until(lambda: running.critic.in_flight == 1)
            refused = await post_solve(running, headers["physics"])
            assert (refused.status_code, refused.json()["code"]) == (429, "quota_exhausted")
            assert int(refused.headers["retry-after"]) > 0
            group.cancel_scope.cancel()
        await wait_until(lambda: running.critic.in_flight == 0)
        async with httpx.AsyncClient(base_url=running.urls[0]) as client:
            again = await client.post("/solve", json=REQUEST, headers=headers["physics"])
            with anyio.fail_after(10):
                while again.status_code != 200:
                    again = await client.post("/solve", json=REQUEST, headers=headers["physics"])
        left = again.json()["budget"]["limits"]["max_tokens"]
        assert left == 64_000 - sum(running.engine_tokens()) + again.json()["usage"]["total_tokens"]


async def test_a_job_belongs_to_its_tenant(tmp_path: Path):
    """Other tenants get 404 for it, its tokens are charged to its tenant, and idempotency keys are separate by tenant."""
    async with stack_with_keys(tmp_path, tokens_per_day=50_000) as (running, headers):
        keyed = [{**header, "Idempotency-Key": "one"} for header in headers.values()]
        mine, other = [(await running.client.post("/jobs", json=REQUEST, headers=key)).json()["id"] for key in keyed]
        assert mine != other
        await running.client.get(f"/jobs/{mine}/events", headers=headers["physics"])
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events"), ("POST", "/answer-now")):
            refused = await running.client.request(method, f"/jobs/{mine}{path}", headers=headers["other"])
            assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
        job = (await running.client.get(f"/jobs/{mine}", headers=headers["physics"])).json()
        after = (await post_solve(running, headers["physics"])).json()
        assert after["budget"]["limits"]["max_tokens"] == 50_000 - job["result"]["usage"]["total_tokens"]


async def test_limits_that_cannot_be_checked_refuse_the_request(tmp_path: Path):
    """While Redis is away, a key with limits gets 503, and one without limits is served."""
    with redis_server(tmp_path) as redis:
        async with stack_with_keys(tmp_path, redis, requests_per_minute=600, burst=10) as (running, headers):
            assert (await post_solve(running, headers["physics"])).status_code == 200
            redis.kill()
            refused = await post_solve(running, headers["physics"])
            assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
            assert (await post_solve(running, headers["other"])).status_code == 200


async def test_four_times_the_admitted_load():
    """Every request is answered or refused with a `Retry-After`, and no more than `max_in_flight` solves run at a time."""
    slow = ScriptedOptions(token_seconds=0.01)
    most = 0
    async with stack(slow, max_in_flight=4, max_waiting=4) as running:
        statuses: Counter[int] = Counter()

        async def one() -> None:
            nonlocal most
            async with httpx.AsyncClient(base_url=running.urls[0], timeout=30) as client:
                response = await client.post("/solve", json=REQUEST)
            most = max(most, running.actor.in_flight)
            statuses[response.status_code] += 1
            if response.status_code == 503:
                assert response.json()["code"] == "overloaded"
                assert int(response.headers["retry-after"]) >= 1

        async with anyio.create_task_group() as group:
            for _ in range(32):
                group.start_soon(one)
        assert set(statuses) == {200, 503}
        assert statuses[200] >= 8
        assert most <= 4
        assert (await post_solve(running, {})).status_code == 200


async def test_waiting_is_limited_and_can_be_cancelled():
    """A request that waits too long is refused; one whose client disconnects leaves the queue."""
    slow = ScriptedOptions(token_seconds=30)
    tight = stack(slow, max_in_flight=1, max_waiting=1, max_waiting_seconds=0.3)
    async with tight as running, anyio.create_task_group() as group:
        group.start_soon(lambda: post_solve(running, {}))
        await wait_until(lambda: running.actor.in_flight == 1)
        for _ in range(2):
            waited = await post_solve(running, {})
            assert (waited.json()["code"], waited.json()["limit"]["name"]) == ("overloaded", "max_waiting_seconds")
        with anyio.move_on_after(0.05):
            await post_solve(running, {})
        waited = await post_solve(running, {})
        assert waited.json()["limit"]["name"] == "max_waiting_seconds"
        group.cancel_scope.cancel()


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 4_000), min_size=1, max_size=40),
    burst=st.integers(1, 5),
    rate=st.sampled_from([30, 60, 240]),
)
def test_a_rate_admits_what_its_definition_does(gaps: list[int], burst: int, rate: int):
    """Compare with the definition: `burst` at once, then one an interval; a refused request is admitted after its wait."""

    async def count_all() -> list[tuple[int, int]]:
        async with Docket("test", f"memory://{new_id('test')}") as docket, docket.redis() as redis:
            now = 1_000_000
            waits: list[tuple[int, int]] = []
            for gap in gaps:
                now += gap
                wait = await count_request(redis, "key", now_ms=now, interval_ms=60_000 / rate, burst=burst)
                waits.append((now, wait))
            return waits

    interval = 60_000 / rate
    admitted: list[int] = []
    for now, wait in anyio.run(count_all):
        due = 0.0
        for earlier in admitted:
            due = max(due, earlier) + interval
        allowed = due - interval * (burst - 1) <= now
        assert (wait == 0) == allowed
        if wait:
            assert due - interval * (burst - 1) <= now + wait
        else:
            admitted.append(now)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), quota=st.integers(1, 500))
def test_a_quota_is_never_overspent(data: st.DataObject, quota: int):
    """However reservations overlap, what is reserved and what is spent stay within the quota at any time."""
    tenant = Tenant(tenant="t", sha256="0" * 64, tokens_per_day=quota)

    async def run() -> None:
        async with Docket("test", f"memory://{new_id('test')}") as docket:
            quotas = TenantQuotas(Keys((tenant,)), docket)
            spent = 0
            held: list[tuple[int, Any, Any]] = []
            for _ in range(data.draw(st.integers(1, 12))):
                if held and data.draw(st.booleans()):
                    granted, scope, share = held.pop(data.draw(st.integers(0, len(held) - 1)))
                    share.spent = data.draw(st.integers(0, granted))
                    spent += share.spent
                    await scope.__aexit__(None, None, None)
                    continue
                scope = quotas.reserve("t", Budget(max_tokens=data.draw(st.integers(1, 300))), 60)
                left = quota - spent - sum(entry[0] for entry in held)
                try:
                    share = await scope.__aenter__()
                except QuotaExhausted:
                    assert left == 0
                    continue
                assert share.limits.max_tokens is not None
                assert 1 <= share.limits.max_tokens <= left
                held.append((share.limits.max_tokens, scope, share))
            for _, scope, _ in held:
                await scope.__aexit__(None, None, None)

    anyio.run(run)
