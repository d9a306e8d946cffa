"""Traces: one tree of spans per solve, across all services. Off by default; spans contain no text of problems or solutions.

A span names its parent by a `traceparent` header and passes one to its children, between services as within the
orchestrator. The provider is ours and not the process's global one, so libraries that trace themselves add nothing to the
tree. Attributes are named as in OpenTelemetry's conventions for generative AI where they have a name; these still change.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

import anyio
from anyio import to_thread
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind
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

_FORMAT = TraceContextTextMapPropagator()


@dataclass(slots=True)
class _Tracing:
    tracer: trace.Tracer | None = None
    flush: Callable[[], object] | None = None


_tracing = _Tracing()

FLUSH_SECONDS = 2.0
"""Time that a service waits for its collector when it shuts down."""


def use(provider: trace.TracerProvider, flush: Callable[[], object] | None = None) -> None:
    """Create spans with this provider from now on; `flush` sends the spans that have ended."""
    off = isinstance(provider, trace.NoOpTracerProvider)
    _tracing.tracer, _tracing.flush = None if off else provider.get_tracer("counterpoint"), flush


def configure(exporting: Exporting, service: str) -> None:
    """Set up the process's traces, once, at its start; `OTEL_EXPORTER_OTLP_ENDPOINT` is the address they are sent to.

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
        raise SettingsError(f"traces need `pip install counterpoint[traces]`: {error}") from error
    provider = sdk.TracerProvider(resource=resources.Resource.create({"service.name": f"counterpoint-{service}"}))
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    use(provider, provider.force_flush)


async def flush() -> None:
    """Send the spans that have ended, before the service shuts down."""
    if _tracing.flush is not None:
        with anyio.move_on_after(FLUSH_SECONDS):
            await to_thread.run_sync(_tracing.flush, abandon_on_cancel=True)


@dataclass(frozen=True, slots=True)
class Traced:
    """A span that has started."""

    span: trace.Span
    traceparent: str | None
    """The header that makes this span the parent of another; without traces, the header of its own parent."""

    def set(self, attributes: Attributes) -> None:
        """Set attributes."""
        self.span.set_attributes(attributes)

    def set_usage(self, usage: Usage | None) -> None:
        """Set the token counts, where they are known."""
        if usage is not None:
            self.set({INPUT_TOKENS: usage.prompt_tokens, OUTPUT_TOKENS: usage.completion_tokens})
            self.set({CACHED_TOKENS: usage.cached_tokens})

    def fail(self, kind: str) -> None:
        """Mark the span as failed; `kind` is the code of the error."""
        self.set({ERROR: kind})
        self.span.set_status(trace.Status(trace.StatusCode.ERROR))

    def end(self) -> None:
        """End the span."""
        self.span.end()


def begin(name: str, traceparent: str | None, attributes: Attributes, kind: SpanKind = SpanKind.INTERNAL) -> Traced:
    """Start a span as a child of `traceparent`. Without traces it records nothing and passes `traceparent` on."""
    if _tracing.tracer is None:
        return Traced(trace.INVALID_SPAN, traceparent)
    parent = _FORMAT.extract({TRACE: traceparent} if traceparent else {}, Context())
    span = _tracing.tracer.start_span(name, parent, kind, dict(attributes))
    carrier: dict[str, str] = {}
    _FORMAT.inject(carrier, trace.set_span_in_context(span, Context()))
    return Traced(span, carrier.get(TRACE) or traceparent)


@contextmanager
def span(
    name: str, traceparent: str | None, attributes: Attributes, kind: SpanKind = SpanKind.INTERNAL
) -> Generator[Traced]:
    """Open a span around a block; an error or a cancellation sets its `error.type`, without the text of the error."""
    traced = begin(name, traceparent, attributes, kind)
    try:
        yield traced
    except CounterpointError as error:
        traced.fail(error.code)
        raise
    except Exception as error:
        traced.fail(type(error).__name__)
        raise
    except BaseException:
        traced.fail("cancelled")
        raise
    finally:
        traced.end()
