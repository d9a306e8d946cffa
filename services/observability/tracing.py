"""Traces: one tree of spans a solve, through all services. Off unless it is set; no text of problems or solutions.

A span's parent is a `traceparent` header, and what a span hands down is one too: between services, and inside the
orchestrator. The provider is our own and not the process's: libraries that trace themselves add nothing to the tree. Names
of attributes are those of OpenTelemetry's conventions for generative AI where there is one; they still move, and stand here.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

import anyio
from anyio import to_thread
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    NoOpTracerProvider,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.call_context import TRACE
from services.contracts.usage import Usage
from services.errors import CounterpointError
from services.settings import SettingsError

OPERATION = "gen_ai.operation.name"
WORKFLOW = "gen_ai.workflow.name"
MODEL = "gen_ai.request.model"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
ERROR = "error.type"
SOLVE_ID = "counterpoint.solve.id"
STOP_REASON = "counterpoint.solve.stop_reason"
ROLE = "counterpoint.role"
CALL_ID = "counterpoint.call.id"
REQUEST_ID = "counterpoint.request.id"
METHOD = "http.request.method"
ROUTE = "http.route"
STATUS = "http.response.status_code"

Exporting = Literal["off", "otlp"]
Attributes = Mapping[str, str | int | float]

_FORM = TraceContextTextMapPropagator()


@dataclass(slots=True)
class _Tracing:
    tracer: Tracer | None = None
    flush: Callable[[], object] | None = None


_tracing = _Tracing()

FLUSH_SECONDS = 2.0
"""How long a service that ends waits for its collector."""


def use(provider: TracerProvider, flush: Callable[[], object] | None = None) -> None:
    """Make spans with this provider from now on; `flush` sends what has ended."""
    off = isinstance(provider, NoOpTracerProvider)
    _tracing.tracer, _tracing.flush = None if off else provider.get_tracer("counterpoint"), flush


def configure(exporting: Exporting, service: str) -> None:
    """Set up the process's traces, once, at its start; where they are sent to is said by `OTEL_EXPORTER_OTLP_ENDPOINT`.

    Raises `SettingsError` when the exporter is not installed.
    """
    if exporting == "off":
        return
    try:
        sdk = import_module("opentelemetry.sdk.trace")
        export = import_module("opentelemetry.sdk.trace.export")
        resources = import_module("opentelemetry.sdk.resources")
        otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ModuleNotFoundError as error:
        raise SettingsError(f"traces need what `pip install counterpoint[traces]` installs: {error}") from error
    provider = sdk.TracerProvider(resource=resources.Resource.create({"service.name": f"counterpoint-{service}"}))
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    use(provider, provider.force_flush)


async def flush() -> None:
    """Send what has ended: a service that is told to stop has no later moment."""
    if _tracing.flush is not None:
        with anyio.move_on_after(FLUSH_SECONDS):
            await to_thread.run_sync(_tracing.flush, abandon_on_cancel=True)


@dataclass(frozen=True, slots=True)
class Traced:
    """A span that has begun."""

    span: Span
    traceparent: str | None
    """What its children have as their parent; without traces, what it had itself."""

    def note(self, attributes: Attributes) -> None:
        """Say more of it."""
        self.span.set_attributes(attributes)

    def used(self, usage: Usage | None) -> None:
        """Say what it used, where that is known."""
        if usage is not None:
            self.note({INPUT_TOKENS: usage.prompt_tokens, OUTPUT_TOKENS: usage.completion_tokens})
            self.note({CACHED_TOKENS: usage.cached_tokens})

    def failed(self, kind: str) -> None:
        """Say that it failed, by the code of the error."""
        self.note({ERROR: kind})
        self.span.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        """It is over."""
        self.span.end()


def begin(name: str, traceparent: str | None, attributes: Attributes, kind: SpanKind = SpanKind.INTERNAL) -> Traced:
    """A span under the one that `traceparent` names; without traces one that notes nothing and hands that one down."""
    if _tracing.tracer is None:
        return Traced(INVALID_SPAN, traceparent)
    parent = _FORM.extract({TRACE: traceparent} if traceparent else {}, Context())
    span = _tracing.tracer.start_span(name, parent, kind, dict(attributes))
    carrier: dict[str, str] = {}
    _FORM.inject(carrier, set_span_in_context(span, Context()))
    return Traced(span, carrier.get(TRACE) or traceparent)


@contextmanager
def span(
    name: str, traceparent: str | None, attributes: Attributes, kind: SpanKind = SpanKind.INTERNAL
) -> Generator[Traced]:
    """A span around a block; an error or a cancellation is its `error.type`, without the error's text."""
    traced = begin(name, traceparent, attributes, kind)
    try:
        yield traced
    except CounterpointError as error:
        traced.failed(error.code)
        raise
    except Exception as error:
        traced.failed(type(error).__name__)
        raise
    except BaseException:
        traced.failed("cancelled")
        raise
    finally:
        traced.end()
