"""One tree of spans a solve, through three real servers, and nothing of its text in them."""

from collections.abc import Generator
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, Request
from jobs import wait_for_end
from opentelemetry.trace import NoOpTracerProvider
from stack import Stack, stack

from services.engines.scripted import ScriptedOptions
from services.observability import tracing
from services.settings import ActorSettings, SettingsError
from services.testing import post_events, serve, wait_until

pytestmark = pytest.mark.anyio

TRACE_ID, CALLER = "a" * 32, "b" * 16
HEADERS = {"traceparent": f"00-{TRACE_ID}-{CALLER}-01"}
SOLVE = {"problem": "Add 12 and 30 and 7.", "strategy": {"name": "refine", "rounds": 1}, "sampling": {"seed": 4}}
SECRET = "12 and 30"  # noqa: S105 - a part of the problem


class Kept:
    """Spans that have ended."""

    def __init__(self) -> None:
        sdk: Any = pytest.importorskip("opentelemetry.sdk.trace")
        export: Any = pytest.importorskip("opentelemetry.sdk.trace.export")
        memory: Any = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
        self._memory = memory.InMemorySpanExporter()
        provider = sdk.TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(export.SimpleSpanProcessor(self._memory))
        tracing.use(provider)

    @property
    def spans(self) -> list[Any]:
        """In the order in which they ended."""
        return list(self._memory.get_finished_spans())

    def named(self, name: str) -> list[Any]:
        """Those of one name."""
        return [span for span in self.spans if span.name == name]

    def tree(self) -> dict[str, Any]:
        """Names under names, from the caller's span on; siblings in the order of their beginning."""
        began = sorted(self.spans, key=lambda span: span.start_time)

        def under(parent: str) -> list[Any]:
            found = [span for span in began if span.parent and f"{span.parent.span_id:016x}" == parent]
            return [{span.name: under(f"{span.context.span_id:016x}")} for span in found]

        return {"caller": under(CALLER)}


@pytest.fixture
def kept() -> Generator[Kept]:
    """The spans of a test; after it there are none again."""
    found = Kept()
    yield found
    tracing.use(NoOpTracerProvider())


async def solved(running: Stack, **more: Any) -> Any:
    """The response to a caller that traces."""
    return await running.client.post("/solve", json={**SOLVE, **more}, headers=HEADERS)


async def test_a_solve_is_one_tree(kept: Kept):
    """The request, the solve, its calls, and each call's request in the service that it reached."""
    async with stack() as running:
        assert (await solved(running)).status_code == 200
    verbs = ["draft", "critique", "critique", "refine", "critique"]
    calls = [{verb: [{f"POST /v1/{verb}": list[Any]()}]} for verb in verbs]
    assert kept.tree() == {"caller": [{"POST /solve": [{"solve": calls}]}]}
    assert {f"{span.context.trace_id:032x}" for span in kept.spans} == {TRACE_ID}


async def test_spans_say_what_was_spent_and_no_text(kept: Kept):
    """Usage is what the engines counted; neither the problem nor a solution stands in any span."""
    async with stack() as running:
        result = (await solved(running)).json()
        total = sum(running.engine_tokens())
    [solve] = kept.named("solve")
    assert dict(solve.attributes) == {
        tracing.OPERATION: "invoke_workflow",
        tracing.WORKFLOW: "refine",
        tracing.SOLVE_ID: result["id"],
        tracing.STOP_REASON: result["stop_reason"],
    }
    calls = [span for span in kept.spans if tracing.CALL_ID in span.attributes]
    assert sum(span.attributes[name] for span in calls for name in (tracing.INPUT_TOKENS, tracing.OUTPUT_TOKENS)) == total
    assert {span.attributes[tracing.ROLE] for span in calls} == {"actor", "critic"}
    told_of = "".join(span.to_json() for span in kept.spans)
    assert SECRET not in told_of
    assert "boxed" not in told_of


async def test_streams_and_chats_are_traced_alike(kept: Kept):
    """Their spans last until the last event."""
    async with stack() as running:
        assert (await post_events(running.client, "/solve", {**SOLVE, "stream": True}, HEADERS))[-1][0] == "solve.finished"
        chat = {"model": "counterpoint-single", "messages": [{"role": "user", "content": "Add 1 and 2."}]}
        await running.client.post("/v1/chat/completions", json=chat, headers=HEADERS)
    requests = ["POST /solve", "POST /v1/chat/completions"]
    assert [next(iter(found)) for found in kept.tree()["caller"]] == requests
    for request, solve in zip(requests, kept.named("solve"), strict=True):
        assert kept.named(request)[0].end_time >= solve.end_time


async def test_a_job_is_traced_under_whoever_submitted_it(kept: Kept):
    """Its solve and its calls, in whichever process they run."""
    async with stack() as running:
        job = (await running.client.post("/jobs", json={**SOLVE, "strategy": "single"}, headers=HEADERS)).json()
        assert (await wait_for_end(running.client, job["id"]))["status"] == "succeeded"
        await wait_until(lambda: bool(kept.named("solve")))
    assert kept.tree() == {"caller": [{"POST /jobs": [{"solve": [{"draft": [{"POST /v1/draft": []}]}]}]}]}


async def test_failures_are_named_by_their_code(kept: Kept):
    """On the call, on the solve and on the request."""
    async with stack(actor=ScriptedOptions(failure_rate=1.0)) as running:
        assert (await solved(running)).status_code == 502
    assert {span.attributes[tracing.ERROR] for span in kept.named("draft")} == {"failed"}
    assert [span.attributes[tracing.ERROR] for span in kept.named("solve")] == ["actor_failed"]
    assert [span.attributes[tracing.ERROR] for span in kept.named("POST /solve")] == ["502"]


async def test_a_hang_up_ends_every_span(kept: Kept):
    """The solve's and its call's as cancelled."""
    async with stack(actor=ScriptedOptions(token_seconds=0.05)) as running:
        async with anyio.create_task_group() as group:
            group.start_soon(solved, running)
            await wait_until(lambda: running.actor.in_flight == 1)
            group.cancel_scope.cancel()
        await wait_until(lambda: bool(kept.named("POST /solve")))
    assert [span.attributes[tracing.ERROR] for span in (*kept.named("draft"), *kept.named("solve"))] == ["cancelled"] * 2


async def test_looking_up_leaves_no_span(kept: Kept):
    """Health, metrics and what is only read belong to no solve."""
    async with stack() as running:
        for path in ("/healthz", "/readyz", "/metrics", "/strategies", "/v1/models"):
            assert (await running.client.get(path)).status_code == 200
    assert kept.spans == []


async def test_without_traces_the_callers_trace_travels():
    """As it came."""
    async with stack() as running:
        assert (await solved(running)).status_code == 200
    traced = tracing.begin("draft", HEADERS["traceparent"], {})
    assert traced.traceparent == HEADERS["traceparent"]
    assert not traced.span.is_recording()
    assert tracing.begin("draft", None, {}).traceparent is None


async def test_spans_are_sent_where_the_environment_says(kept: Kept, monkeypatch: pytest.MonkeyPatch):
    """To an OTLP collector, before a service ends; the service names itself."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    collector, got = FastAPI(), bytearray()

    @collector.post("/v1/traces")
    async def collect(request: Request) -> dict[str, str]:
        got.extend(await request.body())
        return {}

    async with serve(collector) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        tracing.configure("otlp", "actor")
        with tracing.span("draft", None, {}):
            pass
        await tracing.flush()
    assert b"draft" in got
    assert b"counterpoint-actor" in got
    assert kept.spans == []


def test_off_is_the_default(monkeypatch: pytest.MonkeyPatch):
    """And anything but `off` and `otlp` is refused by its name."""
    assert ActorSettings.load().traces == "off"
    monkeypatch.setenv("COUNTERPOINT_ACTOR_TRACES", "jaeger")
    with pytest.raises(SettingsError, match="COUNTERPOINT_ACTOR_TRACES"):
        ActorSettings.load()
