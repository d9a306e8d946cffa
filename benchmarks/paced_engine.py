"""An embedded engine that replays its generations at a configurable pace.

The texts are the model's own and are computed once. A small model on a laptop can thus stand for a large one on a GPU, and
two ways of calling it are compared on the same texts.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest

import anyio

from services.call_context import CallContext
from services.engines.generation import GeneratedStream, Meter
from services.engines.llama import EmbeddedEngine, EmbeddedOptions
from services.engines.protocol import ANONYMOUS, Delta, Generation, GenerationStream, Prompt


@dataclass(frozen=True, slots=True)
class Recording:
    """A complete generation, as the model computed it."""

    deltas: tuple[Delta, ...]
    prompt_tokens: int


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
    async def generate(self, generation: Generation) -> AsyncGenerator[GenerationStream]:
        """Generate at the pace."""
        key, compute = repr(replace(generation, call=ANONYMOUS)), partial(super().generate, generation)
        async with self._replay(key, compute, generation.n, scored=False) as stream:
            yield stream

    @asynccontextmanager
    async def score(self, prompt: Prompt, continuation: str, call: CallContext) -> AsyncGenerator[GenerationStream]:
        """Score in the time of a first token, like any prompt."""
        key, compute = repr((prompt, continuation)), partial(super().score, prompt, continuation, call)
        async with self._replay(key, compute, 1, scored=True) as stream:
            yield stream

    @asynccontextmanager
    async def _replay(
        self, key: str, compute: Callable[[], AbstractAsyncContextManager[GenerationStream]], n: int, *, scored: bool
    ) -> AsyncGenerator[GenerationStream]:
        """Replay the recording of this key, which `compute` makes the first time."""
        if key not in self.recordings:
            async with compute() as running:
                deltas = tuple([delta async for delta in running])
                self.recordings[key] = Recording(deltas, running.usage.prompt_tokens)
        meter = Meter(n)
        play = self._play(self.recordings[key], meter, n, 0.0 if scored else self.pace.token, scored=scored)
        try:
            yield GeneratedStream(meter, play)
        finally:
            await play.aclose()

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
