"""Traces: a solve is one tree of spans across three real servers, and no span holds any of its text."""

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


class RecordedSpans:
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
        """The spans in the order in which they ended."""
        return list(self._memory.get_finished_spans())

    def named(self, name: str) -> list[Any]:
        """Return the spans with a name."""
        return [span for span in self.spans if span.name == name]

    def tree(self) -> dict[str, Any]:
        """Return the names of the spans as a tree below the caller's span; siblings are in the order of their start."""
        began = sorted(self.spans, key=lambda span: span.start_time)

        def under(parent: str) -> list[Any]:
            children = [span for span in began if span.parent and f"{span.parent.span_id:016x}" == parent]
            return [{span.name: under(f"{span.context.span_id:016x}")} for span in children]

        return {"caller": under(CALLER)}


@pytest.fixture
def recorded() -> Generator[RecordedSpans]:
    """Record the spans of a test."""
    yield RecordedSpans()
    tracing.use(NoOpTracerProvider())


async def solved(running: Stack, **more: Any) -> Any:
    """Send `POST /solve` with a trace; return the response."""
    return await running.client.post("/solve", json={**SOLVE, **more}, headers=HEADERS)


async def test_a_solve_is_one_tree(recorded: RecordedSpans):
    """The request, the solve, its calls, and each call's request in the service that it reached."""
    async with stack() as running:
        assert (await solved(running)).status_code == 200
    verbs = ["draft", "critique", "critique", "refine", "critique"]
    calls = [{verb: [{f"POST /v1/{verb}": list[Any]()}]} for verb in verbs]
    assert recorded.tree() == {"caller": [{"POST /solve": [{"solve": calls}]}]}
    assert {f"{span.context.trace_id:032x}" for span in recorded.spans} == {TRACE_ID}


async def test_spans_hold_the_usage_and_no_text(recorded: RecordedSpans):
    """The usage is what the engines counted, and no span holds the problem or a solution."""
    async with stack() as running:
        result = (await solved(running)).json()
        total = sum(running.engine_tokens())
    [solve] = recorded.named("solve")
    assert dict(solve.attributes) == {
        tracing.OPERATION: "invoke_workflow",
        tracing.WORKFLOW: "refine",
        tracing.SOLVE_ID: result["id"],
        tracing.STOP_REASON: result["stop_reason"],
    }
    calls = [span for span in recorded.spans if tracing.CALL_ID in span.attributes]
    assert sum(span.attributes[name] for span in calls for name in (tracing.INPUT_TOKENS, tracing.OUTPUT_TOKENS)) == total
    assert {span.attributes[tracing.ROLE] for span in calls} == {"actor", "critic"}
    text = "".join(span.to_json() for span in recorded.spans)
    assert SECRET not in text
    assert "boxed" not in text


async def test_streams_and_chats_are_traced_in_the_same_way(recorded: RecordedSpans):
    """Their spans last until the last event."""
    async with stack() as running:
        assert (await post_events(running.client, "/solve", {**SOLVE, "stream": True}, HEADERS))[-1][0] == "solve.finished"
        chat = {"model": "counterpoint-single", "messages": [{"role": "user", "content": "Add 1 and 2."}]}
        await running.client.post("/v1/chat/completions", json=chat, headers=HEADERS)
    requests = ["POST /solve", "POST /v1/chat/completions"]
    assert [next(iter(child)) for child in recorded.tree()["caller"]] == requests
    for request, solve in zip(requests, recorded.named("solve"), strict=True):
        assert recorded.named(request)[0].end_time >= solve.end_time


async def test_a_job_is_traced_under_its_submission(recorded: RecordedSpans):
    """Its solve and its calls belong to the trace of the client, in whichever process they run."""
    async with stack() as running:
        job = (await running.client.post("/jobs", json={**SOLVE, "strategy": "single"}, headers=HEADERS)).json()
        assert (await wait_for_end(running.client, job["id"]))["status"] == "succeeded"
        await wait_until(lambda: bool(recorded.named("solve")))
    assert recorded.tree() == {"caller": [{"POST /jobs": [{"solve": [{"draft": [{"POST /v1/draft": []}]}]}]}]}


async def test_failures_are_named_by_their_code(recorded: RecordedSpans):
    """The call, the solve and the request each hold an error."""
    async with stack(actor=ScriptedOptions(failure_rate=1.0)) as running:
        assert (await solved(running)).status_code == 502
    assert {span.attributes[tracing.ERROR] for span in recorded.named("draft")} == {"failed"}
    assert [span.attributes[tracing.ERROR] for span in recorded.named("solve")] == ["actor_failed"]
    assert [span.attributes[tracing.ERROR] for span in recorded.named("POST /solve")] == ["502"]


async def test_a_disconnect_ends_every_span(recorded: RecordedSpans):
    """The spans of the solve and of its call end as cancelled."""
    async with stack(actor=ScriptedOptions(token_seconds=0.05)) as running:
        async with anyio.create_task_group() as group:
            group.start_soon(solved, running)
            await wait_until(lambda: running.actor.in_flight == 1)
            group.cancel_scope.cancel()
        await wait_until(lambda: bool(recorded.named("POST /solve")))
    assert [span.attributes[tracing.ERROR] for span in (*recorded.named("draft"), *recorded.named("solve"))] == [
        "cancelled"
    ] * 2


async def test_reading_requests_are_not_traced(recorded: RecordedSpans):
    """Health, metrics and lists belong to no solve and leave no span."""
    async with stack() as running:
        for path in ("/healthz", "/readyz", "/metrics", "/strategies", "/v1/models"):
            assert (await running.client.get(path)).status_code == 200
    assert recorded.spans == []


async def test_without_tracing_the_trace_of_the_caller_is_passed_on():
    """It is passed on unchanged."""
    async with stack() as running:
        assert (await solved(running)).status_code == 200
    traced = tracing.begin("draft", HEADERS["traceparent"], {})
    assert traced.traceparent == HEADERS["traceparent"]
    assert not traced.span.is_recording()
    assert tracing.begin("draft", None, {}).traceparent is None


async def test_spans_are_sent_to_the_collector_of_the_environment(recorded: RecordedSpans, monkeypatch: pytest.MonkeyPatch):
    """They reach an OTLP collector before the service ends, with the name of the service."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    collector, received = FastAPI(), bytearray()

    @collector.post("/v1/traces")
    async def collect(request: Request) -> dict[str, str]:
        received.extend(await request.body())
        return {}

    async with serve(collector) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        tracing.configure("otlp", "actor")
        with tracing.span("draft", None, {}):
            pass
        await tracing.flush()
    assert b"draft" in received
    assert b"counterpoint-actor" in received
    assert recorded.spans == []


def test_traces_are_off_by_default(monkeypatch: pytest.MonkeyPatch):
    """Values other than `off` and `otlp` are refused with the name of the variable."""
    assert ActorSettings.load().traces == "off"
    monkeypatch.setenv("COUNTERPOINT_ACTOR_TRACES", "jaeger")
    with pytest.raises(SettingsError, match="COUNTERPOINT_ACTOR_TRACES"):
        ActorSettings.load()
