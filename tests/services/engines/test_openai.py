"""The `openai` engine against real servers on a scripted engine; `tests/vllm/test_serve.py` has the real vLLM."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import httpx
import pytest
from openai_server import Server

from actor_service.routes import router
from actor_service.service import ActorService
from counterpoint.supervisor import free_port
from services.contracts.sampling import Sampling
from services.engines.factory import open_engine
from services.engines.openai import OpenAIEngine, OpenAIOptions
from services.engines.openai.replicas import Replicas, weight
from services.engines.openai.wire import CONTROL_TOKENS
from services.engines.protocol import Generation, Guide
from services.engines.scripted import ScriptedEngine, ScriptedOptions
from services.engines.testing import call_of, complete, user_prompt
from services.errors import CounterpointError, EngineFailed, InvalidRequest, NotReady, Overloaded
from services.role import create_role_app
from services.settings import ActorSettings
from services.testing import post_events, serve, wait_until

pytestmark = pytest.mark.anyio

CALL = Generation(user_prompt("Add 12 and 30 and 7."), Sampling(seed=3, max_tokens=200))


@asynccontextmanager
async def engine(*servers: Server) -> AsyncGenerator[OpenAIEngine]:
    """Start the servers and yield an engine that calls them."""
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serve(server.app())) for server in servers]
        remote = OpenAIEngine(OpenAIOptions(tuple(urls), "scripted"))
        stack.push_async_callback(remote.close)
        yield remote


async def test_features_are_probed_once():
    """Probed features become capabilities. A server that rejects unknown fields lacks some features but works."""
    server = Server()
    async with engine(server) as remote:
        with pytest.raises(NotReady):
            _ = remote.capabilities
        await remote.check()
        probes = len(server.bodies)
        await remote.check()
        assert len(server.bodies) == probes
        able = remote.capabilities
        assert (able.logprobs, able.prefix, able.score, able.guided, able.counts) == (True, False, False, (), "bounded")
        assert remote.context_length == 4096
        assert remote.special_tokens == CONTROL_TOKENS
        assert not remote.features.priority


@pytest.mark.parametrize("draws", [True, False], ids=["n at once", "one by one"])
async def test_texts_and_usage_match_the_server(draws: bool):  # noqa: FBT001 - a parameter
    """Each sample has its text and ends once, and usage is what the server reports, with the prompt of each request."""
    server = Server(draws=draws)
    async with engine(server) as remote:
        await remote.check()
        before = server.engine.totals
        call = Generation(CALL.prompt, CALL.sampling, n=8, call=call_of(session="solve_1"))
        texts, usage, deltas = await complete(remote, call)
        assert all(texts)
        assert len({*texts}) > 1
        assert sorted(d.index for d in deltas if d.finish_reason) == list(range(8))
        spent = server.engine.totals
        assert usage.completion_tokens == spent.completion_tokens - before.completion_tokens
        assert usage.prompt_tokens == spent.prompt_tokens - before.prompt_tokens
        assert server.sessions[-1] == "solve_1"
        assert (await complete(remote, call)).texts == texts, "the same seed gives the same samples"
        assert remote.count(CALL.prompt) >= server.engine.count(CALL.prompt), "a bound is never too small"


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_is_left_out_of_the_text(name: str):
    """Reasoning tokens count but are left out of the text."""
    async with engine(Server(thinks=name)) as thinking, engine(Server()) as plain:
        for remote in (thinking, plain):
            await remote.check()
        with_reasoning, without = await complete(thinking, CALL), await complete(plain, CALL)
        assert with_reasoning.texts == without.texts
        assert sum(delta.tokens for delta in with_reasoning.deltas) == sum(delta.tokens for delta in without.deltas) + 1


async def test_unreported_usage_is_bounded_from_above():
    """If no usage is reported or the stream is abandoned, the charge is at least what the server computed."""
    server = Server(reports_usage=False)
    async with engine(server) as remote:
        await remote.check()
        before = server.engine.totals
        _, usage, _ = await complete(remote, CALL)
        spent = server.engine.totals
        assert usage.completion_tokens >= spent.completion_tokens - before.completion_tokens
        assert usage.prompt_tokens >= spent.prompt_tokens - before.prompt_tokens
        before = server.engine.totals
        async with remote.generate(CALL) as stream:
            async for _ in stream:
                break
        await wait_until(lambda: server.engine.in_flight == 0)
        assert stream.usage.prompt_tokens >= server.engine.totals.prompt_tokens - before.prompt_tokens


async def test_cancellation_stops_the_server():
    """Cancelling the reader closes the stream, and the server stops generating."""
    server = Server(ScriptedEngine(ScriptedOptions(token_seconds=0.05)))
    async with engine(server) as remote:
        await remote.check()
        aborted = server.engine.aborted
        with anyio.move_on_after(0.3) as scope:
            await complete(remote, CALL)
        assert scope.cancelled_caught
        assert remote.in_flight == 0
        await wait_until(lambda: server.engine.in_flight == 0)
        assert server.engine.aborted == aborted + 1


@pytest.mark.parametrize(
    ("server", "kind"),
    [
        (Server(status=500), EngineFailed),
        (Server(status=400), InvalidRequest),
        (Server(status=429, retry_after="7"), Overloaded),
        (Server(status=503), Overloaded),
        (Server(breaks_after=0), EngineFailed),
        (Server(breaks_after=3), EngineFailed),
    ],
    ids=["500", "400", "429", "503", "breaks at once", "breaks midway"],
)
async def test_server_errors_are_typed(server: Server, kind: type[CounterpointError]):
    """Error statuses and truncated streams raise typed errors. A busy server's `Retry-After` is kept."""
    async with engine(server) as remote:
        await remote.check()
        with pytest.raises(kind) as raised:
            await complete(remote, CALL)
        assert raised.value.retry_after == {429: 7.0, 503: 1.0}.get(server.status)


async def test_unsupported_guides_are_refused():
    """A guide that the server does not support raises `InvalidRequest`."""
    async with engine(Server()) as remote:
        await remote.check()
        with pytest.raises(InvalidRequest):
            await complete(remote, Generation(CALL.prompt, CALL.sampling, guide=Guide("regex", "x")))


async def test_a_session_stays_on_its_replica():
    """Sessions are spread over the replicas. When a replica is removed, only its own sessions move."""
    servers = [Server() for _ in range(3)]
    async with engine(*servers) as remote:
        await remote.check()
        homes = dict[str, int]()
        for number in range(12):
            for _ in range(2):
                counts = [len(server.bodies) for server in servers]
                await complete(remote, Generation(CALL.prompt, Sampling(max_tokens=2), call=call_of(session=f"s{number}")))
                (home,) = [k for k, server in enumerate(servers) if len(server.bodies) > counts[k]]
                assert homes.setdefault(f"s{number}", home) == home
        assert len(set(homes.values())) > 1
    urls = [f"http://replica-{k}" for k in range(5)]
    owner = {s: max(urls, key=lambda url: weight(s, url)) for s in map(str, range(500))}
    left = {s: max(urls[1:], key=lambda url: weight(s, url)) for s in owner}
    assert all(left[s] == owner[s] for s in owner if owner[s] != urls[0])
    shares = [list(owner.values()).count(url) for url in urls]
    assert max(shares) < 2 * min(shares)


async def test_an_overloaded_replica_is_skipped():
    """The calls of one session overflow to another replica when its own has more than its share of the load."""
    servers = [Server(ScriptedEngine(ScriptedOptions(first_token_seconds=0.2))) for _ in range(2)]
    async with engine(*servers) as remote:
        await remote.check()
        before = [len(server.bodies) for server in servers]
        async with anyio.create_task_group() as group:
            for _ in range(16):
                group.start_soon(complete, remote, Generation(CALL.prompt, CALL.sampling, call=call_of(session="one")))
        added = sorted(len(server.bodies) - count for server, count in zip(servers, before, strict=True))
        assert sum(added) == 16
        assert added[1] <= 11, "at most 1.25 times the mean, plus one"


@pytest.mark.parametrize("status", [500, 503])
async def test_a_failed_call_is_retried_on_another_replica(status: int):
    """A failure before the first chunk is retried on another replica."""
    servers = [Server(), Server(status=status)]
    async with engine(*servers) as remote:
        await remote.check()
        for number in range(8):
            texts, _, _ = await complete(remote, Generation(CALL.prompt, CALL.sampling, call=call_of(session=f"s{number}")))
            assert texts[0]


async def test_a_dead_replica_gets_no_calls():
    """The breaker of a dead replica opens and calls go to the other. The check fails once both are gone."""
    first, second = Server(), Server()
    async with serve(second.app()) as alive:
        async with serve(first.app()) as dying:
            remote = OpenAIEngine(OpenAIOptions((alive, dying), "scripted"))
            await remote.check()
        await remote.check()
        assert [replica.breaker.open for replica in remote.replicas] == [False, True]
        for number in range(6):
            assert (
                await complete(remote, Generation(CALL.prompt, CALL.sampling, call=call_of(session=f"s{number}")))
            ).texts[0]
        assert remote.metrics
        opened = {s.labels["replica"]: s.value for f in remote.metrics.collect() for s in f.samples if "breaker" in s.name}
        assert sorted(opened.values()) == [0.0, 1.0]
    with pytest.raises(NotReady):
        await remote.check()
    await remote.close()


async def test_an_open_breaker_admits_one_probe():
    """After the open period one call goes to the replica. Others avoid it until that call has ended."""
    replicas = Replicas(["http://a", "http://b"])
    breaker = replicas.all[0].breaker
    breaker.fail(refused=True)
    assert [r.url for r in replicas.order("x")] == ["http://b"]
    breaker.until = anyio.current_time()
    assert len(replicas.order("x")) == 2
    with replicas.using(replicas.all[0]):
        assert len(replicas.order("x")) == 1
    assert len(replicas.order("x")) == 2
    await replicas.close()


async def test_a_service_becomes_ready_when_its_server_does():
    """A service starts without its server and is not ready. It becomes ready when the server responds, and serves calls."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    settings = ActorSettings.load(engine="openai", model="scripted", base_urls=address, dialect="structured")
    service = ActorService(settings, lambda: open_engine(settings))
    app = create_role_app(service, "actor", [router(service)])
    async with serve(app) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/readyz")).status_code == 503
        refused = await client.get("/v1/model")
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        async with serve(Server().app(), port):
            with anyio.fail_after(20):
                while not (await client.get("/readyz")).is_success:  # noqa: ASYNC110 - another server
                    await anyio.sleep(0.05)
            card = (await client.get("/v1/model")).json()
            assert (card["engine"], card["counts"]) == ("openai", "bounded")
            events = await post_events(client, "/v1/draft", {"problem": "Add 1 and 2."})
            assert [name for name, _ in events][-2:] == ["candidate", "usage"]
            assert "counterpoint_replica_requests_total" in (await client.get("/metrics")).text
