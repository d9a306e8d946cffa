"""The parts of a generation that all engines share: usage, the stream of deltas, seeds, and the limits of the context.

A stream takes its deltas from a generator of its engine (`GeneratedStream`), or the engine puts them into a queue from tasks
or threads of its own (`QueuedStream`). In both cases the engine updates the `Meter`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from secrets import randbits

import anyio
from anyio.abc import TaskGroup
from anyio.from_thread import BlockingPortal
from prometheus_client.registry import Collector

from services.contracts.sampling import Sampling
from services.contracts.usage import Usage
from services.engines.protocol import Delta, TokenLogprobs
from services.errors import ContextExceeded, CounterpointError


@dataclass(slots=True)
class Meter:
    """The token counts of a generation of `samples` samples while it runs."""

    samples: int = 1
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    finished: set[int] = field(default_factory=set[int])

    @property
    def usage(self) -> Usage:
        """The usage so far."""
        return Usage(
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
        )

    def count(self, delta: Delta, *, scored: bool = False) -> None:
        """Add a delta. Tokens that were `scored` and not sampled count as prompt."""
        if scored:
            self.prompt_tokens += delta.tokens
        else:
            self.completion_tokens += delta.tokens
        if delta.finish_reason:
            self.finished.add(delta.index)


@dataclass(slots=True)
class GeneratedStream:
    """A generation whose deltas come from an asynchronous generator, which updates the meter."""

    meter: Meter
    deltas: AsyncGenerator[Delta]

    @property
    def usage(self) -> Usage:
        """The usage so far."""
        return self.meter.usage

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self.deltas


class QueuedStream:
    """A generation whose deltas are put into a queue, without waiting for the reader."""

    def __init__(self, samples: int) -> None:
        self.meter = Meter(samples)
        self._unfinished = samples
        self._send, self._receive = anyio.create_memory_object_stream[Delta | CounterpointError](float("inf"))

    @property
    def usage(self) -> Usage:
        """The usage so far."""
        return self.meter.usage

    async def __aiter__(self) -> AsyncIterator[Delta]:
        while self._unfinished:
            item = await self._receive.receive()
            if isinstance(item, CounterpointError):
                raise item
            self._unfinished -= item.finish_reason is not None
            yield item

    def put(self, item: Delta | CounterpointError) -> None:
        """Queue a delta, or the error that ends the generation."""
        self._send.send_nowait(item)

    def close(self) -> None:
        """Close the queue when nothing reads it any more."""
        self._send.close()
        self._receive.close()


class MeteredEngine:
    """Base of engines that count generations: those in flight, those aborted, and the usage of all (`totals`)."""

    parameters: int | None = None
    metrics: Collector | None = None

    def __init__(self) -> None:
        self.in_flight = 0
        self.aborted = 0
        self.totals = Usage()

    @contextmanager
    def _metered(self, meter: Meter) -> Generator[None]:
        """Count a generation while it runs, and its usage at the end."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self.aborted += len(meter.finished) < meter.samples
            self.totals += meter.usage

    @asynccontextmanager
    async def _generated(self, meter: Meter, deltas: AsyncGenerator[Delta]) -> AsyncGenerator[GeneratedStream]:
        """Open a stream of the deltas of a generator, which is closed when the stream is left."""
        with self._metered(meter):
            async with aclosing(deltas):
                yield GeneratedStream(meter, deltas)

    @asynccontextmanager
    async def _queued(self, stream: QueuedStream) -> AsyncGenerator[tuple[TaskGroup, BlockingPortal]]:
        """Open a queued stream, with a group for the tasks that fill it and a portal for threads that do.

        The tasks are cancelled when the stream is left. Raises what the body raises, instead of a group of it.
        """
        failure: Exception | None = None
        with self._metered(stream.meter):
            try:
                async with BlockingPortal() as portal, anyio.create_task_group() as group:
                    try:
                        yield group, portal
                    except Exception as error:  # noqa: BLE001 - it is raised again below
                        failure = error
                    group.cancel_scope.cancel()
            finally:
                stream.close()
            if failure:
                raise failure


def base_seed(sampling: Sampling) -> int:
    """Return the 31-bit seed of sample 0; sample k adds k. It is hashed, so that neighbouring seeds share no samples."""
    if sampling.seed is None:
        return randbits(31)
    return int.from_bytes(blake2b(str(sampling.seed).encode(), digest_size=4).digest()) >> 1


def tokens_left(context_length: int, prompt_tokens: int, needed: int = 1) -> int:
    """Return the tokens that the context leaves after a prompt. Raises `ContextExceeded` if fewer than `needed`."""
    if prompt_tokens + needed > context_length:
        raise ContextExceeded(needed=prompt_tokens + needed, context_length=context_length)
    return context_length - prompt_tokens


def scored_deltas(pieces: Sequence[str], logprobs: Sequence[float]) -> Generator[Delta]:
    """Yield a delta for each token of a scored text. Raises `ValueError` unless each has a log-probability."""
    for place, (text, logprob) in enumerate(zip(pieces, logprobs, strict=True), start=1):
        yield Delta(0, text, 1, (TokenLogprobs(text, logprob),), "stop" if place == len(pieces) else None)
