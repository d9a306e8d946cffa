"""A real engine at a steady pace: the text is the model's own, computed once; the pace is an option.

So a small model on a laptop stands for a large one on a GPU, and two orders of calls are compared on the same texts.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest

import anyio

from services.engines.generation import GeneratedStream, Meter
from services.engines.llama import EmbeddedEngine, EmbeddedOptions
from services.engines.protocol import ANONYMOUS, Delta, Generation, GenerationStream, Prompt
from services.identity import CallContext


@dataclass(frozen=True, slots=True)
class Said:
    """A whole generation, as it was computed."""

    deltas: tuple[Delta, ...]
    prompt_tokens: int


@dataclass(slots=True)
class Pace:
    """Seconds before the first token and for each token; shared by a benchmark's engines, changed between passes."""

    first: float = 0.0
    token: float = 0.0


class PacedEngine(EmbeddedEngine):
    """The embedded engine, whose generations are played at `pace`."""

    pace: Pace
    said: dict[str, Said]

    @classmethod
    async def at(cls, options: EmbeddedOptions, pace: Pace) -> "PacedEngine":
        """Load the model."""
        engine = cls(options, *cls.parts(options))
        engine.pace, engine.said = pace, {}
        return engine

    @asynccontextmanager
    async def generate(self, generation: Generation) -> AsyncGenerator[GenerationStream]:
        """Say it at the pace."""
        key = repr(replace(generation, call=ANONYMOUS))
        if key not in self.said:
            async with super().generate(generation) as running:
                deltas = tuple([delta async for delta in running])
                self.said[key] = Said(deltas, running.usage.prompt_tokens)
        async with self._played(self.said[key], generation.n, scored=False) as playing:
            yield playing

    @asynccontextmanager
    async def score(self, prompt: Prompt, continuation: str, call: CallContext) -> AsyncGenerator[GenerationStream]:
        """A prompt like any other: it takes the time of a first token."""
        key = repr((prompt, continuation))
        if key not in self.said:
            async with super().score(prompt, continuation, call) as running:
                deltas = tuple([delta async for delta in running])
                self.said[key] = Said(deltas, running.usage.prompt_tokens)
        async with self._played(self.said[key], 1, scored=True) as playing:
            yield playing

    @asynccontextmanager
    async def _played(self, said: Said, n: int, *, scored: bool) -> AsyncGenerator[GenerationStream]:
        meter = Meter(n)
        running = GeneratedStream(meter, self._play(said, meter, n, 0.0 if scored else self.pace.token, scored=scored))
        try:
            yield running
        finally:
            await running.deltas.aclose()

    async def _play(self, said: Said, meter: Meter, n: int, token: float, *, scored: bool) -> AsyncGenerator[Delta]:
        await anyio.sleep(self.pace.first)
        meter.prompt_tokens = said.prompt_tokens
        for row in zip_longest(*_by_sample(said.deltas, n)):
            if token:
                await anyio.sleep(token * max(delta.tokens for delta in row if delta))
            for delta in filter(None, row):
                meter.completion_tokens += 0 if scored else delta.tokens
                if delta.finish_reason:
                    meter.finished.add(delta.index)
                yield delta


def _by_sample(deltas: Sequence[Delta], n: int) -> list[list[Delta]]:
    return [[delta for delta in deltas if delta.index == sample] for sample in range(n)]
