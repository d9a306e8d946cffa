"""An embedded engine that replays its generations at a configurable pace.

The texts are the model's own and are computed once. A small model on a laptop can thus stand for a large one on a GPU, and
two ways of calling it are compared on the same texts.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest

import anyio

from services.contracts.usage import Usage
from services.engines.embedded import EmbeddedEngine, EmbeddedOptions
from services.engines.protocol import Caller, Delta, Generation, Meter, Prompt, Running


@dataclass(frozen=True, slots=True)
class Recording:
    """A complete generation, as the model computed it."""

    deltas: tuple[Delta, ...]
    prompt_tokens: int


@dataclass(slots=True)
class Playback:
    """A generation that is being replayed."""

    meter: Meter
    deltas: AsyncGenerator[Delta]

    @property
    def usage(self) -> Usage:
        """The usage so far."""
        return self.meter.usage

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self.deltas


@dataclass(slots=True)
class Pace:
    """Seconds before the first token and per token. A benchmark's engines share one and change it between passes."""

    first: float = 0.0
    token: float = 0.0


class PacedEngine(EmbeddedEngine):
    """The embedded engine, whose generations are replayed at `pace`."""

    pace: Pace
    recordings: dict[str, Recording]

    @classmethod
    async def at(cls, options: EmbeddedOptions, pace: Pace) -> "PacedEngine":
        """Load the model."""
        engine = cls(options, *cls.parts(options))
        engine.pace, engine.recordings = pace, {}
        return engine

    @asynccontextmanager
    async def generate(self, generation: Generation) -> AsyncGenerator[Running]:
        """Generate at the pace."""
        key = repr(replace(generation, caller=Caller()))
        if key not in self.recordings:
            async with super().generate(generation) as running:
                deltas = tuple([delta async for delta in running])
                self.recordings[key] = Recording(deltas, running.usage.prompt_tokens)
        async with self._playback(self.recordings[key], generation.n, scored=False) as playback:
            yield playback

    @asynccontextmanager
    async def score(self, prompt: Prompt, continuation: str, caller: Caller) -> AsyncGenerator[Running]:
        """Score in the time of a first token, like any prompt."""
        key = repr((prompt, continuation))
        if key not in self.recordings:
            async with super().score(prompt, continuation, caller) as running:
                deltas = tuple([delta async for delta in running])
                self.recordings[key] = Recording(deltas, running.usage.prompt_tokens)
        async with self._playback(self.recordings[key], 1, scored=True) as playback:
            yield playback

    @asynccontextmanager
    async def _playback(self, recording: Recording, n: int, *, scored: bool) -> AsyncGenerator[Running]:
        meter = Meter()
        running = Playback(meter, self._play(recording, meter, n, 0.0 if scored else self.pace.token, scored=scored))
        try:
            yield running
        finally:
            await running.deltas.aclose()

    async def _play(
        self, recording: Recording, meter: Meter, n: int, token: float, *, scored: bool
    ) -> AsyncGenerator[Delta]:
        await anyio.sleep(self.pace.first)
        meter.prompt_tokens = recording.prompt_tokens
        for row in zip_longest(*_by_sample(recording.deltas, n)):
            if token:
                await anyio.sleep(token * max(delta.tokens for delta in row if delta))
            for delta in filter(None, row):
                meter.completion_tokens += 0 if scored else delta.tokens
                if delta.finish_reason:
                    meter.finished.add(delta.index)
                yield delta


def _by_sample(deltas: Sequence[Delta], n: int) -> list[list[Delta]]:
    return [[delta for delta in deltas if delta.index == sample] for sample in range(n)]
