"""A deterministic engine without a model, for tests, load and benchmarks.

What it writes is a function of the prompt, the sample's index and the seed; how long it takes and how often it fails are
knobs. Tokens are words, runs of white space and single other characters, so counts are exact and anybody can redo them.
"""

import math
import random
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import zip_longest
from typing import Literal

import anyio

from services.contracts.model import Capabilities
from services.contracts.usage import Usage
from services.engines import scripts
from services.engines.protocol import Caller, Delta, Generation, Meter, Prompt, TokenLogprobs
from services.errors import ContextExceeded, EngineFailed

TEMPLATE_TOKENS = 3
"""Control tokens that the pretended chat template adds to each message."""

SPECIAL_TOKENS = ("<|im_start|>", "<|im_end|>")

REMEMBERED_PROMPTS = 4_096
"""Beginnings of prompts that the pretended prefix cache holds."""

CAPABILITIES = Capabilities(prefix=True, logprobs=True, guided=("choice", "json"), score=False, counts="exact")

_TOKEN = re.compile(r"\w+|[^\w\s]|\s+")


def tokens(text: str) -> list[str]:
    """The tokens of a text: words, runs of white space, and single other characters; joined they are the text."""
    return _TOKEN.findall(text)


@lru_cache(maxsize=256)
def _length(text: str) -> int:
    return len(tokens(text))


@dataclass(frozen=True, slots=True)
class ScriptedOptions:
    """How the engine behaves. Times in seconds, rates in [0, 1]; a failure comes before or amid the text, by seed."""

    script: scripts.Script = scripts.plausible
    first_token_seconds: float = 0.0
    token_seconds: float = 0.0
    failure_rate: float = 0.0
    garbage_rate: float = 0.0
    context_length: int = 32_768
    capabilities: Capabilities = CAPABILITIES


@dataclass(slots=True)
class _Running:
    """A generation in progress."""

    meter: Meter
    deltas: AsyncGenerator[Delta]

    @property
    def usage(self) -> Usage:
        """The account so far."""
        return self.meter.usage

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self.deltas


class ScriptedEngine:
    """An engine that plays a script."""

    name = "scripted"
    model = "scripted"
    parameters: int | None = None
    special_tokens: tuple[str, ...] = SPECIAL_TOKENS
    metrics = None

    def __init__(self, options: ScriptedOptions | None = None) -> None:
        """`totals` adds up every generation's usage, `aborted` counts those left before their end."""
        self.options = options or ScriptedOptions()
        self.in_flight = 0
        self.generations = 0
        self.aborted = 0
        self.totals = Usage()
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    @property
    def context_length(self) -> int:
        """Longest prompt + completion, in tokens."""
        return self.options.context_length

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can do."""
        return self.options.capabilities

    def count(self, prompt: Prompt) -> int:
        """Tokens of the prompt, exactly."""
        return _length(prompt.prefix) + sum(TEMPLATE_TOKENS + _length(m.content) for m in prompt.messages)

    @asynccontextmanager
    async def score(self, prompt: Prompt, continuation: str, caller: Caller) -> AsyncGenerator[_Running]:
        """Not supported."""
        del prompt, continuation, caller
        raise EngineFailed("the scripted engine does not score")
        yield

    async def check(self) -> None:
        """Always well."""

    async def close(self) -> None:
        """Nothing to free."""

    @asynccontextmanager
    async def generate(self, generation: Generation) -> AsyncGenerator[_Running]:
        """Play the script; leaving early stops it."""
        needed = self.count(generation.prompt)
        if needed + 1 > self.context_length:
            raise ContextExceeded(needed=needed + 1, context_length=self.context_length)
        running = _Running(meter := Meter(), self._play(generation, meter, needed))
        self.in_flight += 1
        self.generations += 1
        try:
            yield running
        finally:
            self.in_flight -= 1
            self.aborted += len(meter.finished) < generation.n
            self.totals += meter.usage
            await running.deltas.aclose()

    async def _play(self, generation: Generation, meter: Meter, needed: int) -> AsyncGenerator[Delta]:
        chance = _source(generation, None)
        fails, at_once = chance.random() < self.options.failure_rate, chance.random() < 0.5  # noqa: PLR2004 - a coin
        await anyio.sleep(self.options.first_token_seconds)
        if fails and at_once:
            raise EngineFailed("the script says that this call fails")
        meter.prompt_tokens = needed
        meter.cached_tokens = self._cached(generation.prompt)
        samples = [self._sample(generation, index, self.context_length - needed) for index in range(generation.n)]
        half = max(map(len, samples)) // 2
        for at, row in enumerate(zip_longest(*samples)):
            if fails and at >= half:
                raise EngineFailed("the script says that this call fails midway")
            if at and self.options.token_seconds:
                await anyio.sleep(self.options.token_seconds)
            for delta in filter(None, row):
                _count(meter, delta)
                yield delta

    def _sample(self, generation: Generation, index: int, room: int) -> list[Delta]:
        source = _source(generation, index)
        garbage = source.random() < self.options.garbage_rate
        said = tokens(scripts.garbage(source) if garbage else self.options.script(generation, source))
        most = min(generation.sampling.max_tokens, room)
        text, used, stopped = _stopped(said[:most], generation.sampling.stop)
        finish = "stop" if stopped or len(said) <= most else "length"
        certainty = 0.5 + source.random() * 0.49
        pieces = [[token] for token in text] if self.options.token_seconds else _lines(text)
        deltas = [Delta(index, "".join(p), len(p), _logprobs(p, certainty, generation.top_logprobs)) for p in pieces]
        return _finished(index, deltas, used - len(text), finish)

    def _cached(self, prompt: Prompt) -> int:
        """Tokens of the leading messages that an earlier prompt had too, as a prefix cache would find them."""
        cached, hit, key = 0, True, blake2b(digest_size=8)
        for message in prompt.messages:
            key.update(f"{message.role}\n{message.content}\0".encode())
            hit = hit and key.digest() in self._seen
            cached += (TEMPLATE_TOKENS + _length(message.content)) if hit else 0
            self._seen[key.digest()] = None
            self._seen.move_to_end(key.digest())
        while len(self._seen) > REMEMBERED_PROMPTS:
            self._seen.popitem(last=False)
        return cached


def _source(generation: Generation, index: int | None) -> random.Random:
    """Randomness that depends on the prompt, the seed and the sample; a greedy sample does not depend on its seed."""
    prompt, sampling = generation.prompt, generation.sampling
    seeded = index is None or sampling.temperature > 0
    parts = [*(f"{m.role}\n{m.content}" for m in prompt.messages), prompt.prefix, f"{sampling.seed} {index}" * seeded]
    return random.Random(blake2b("\0".join(parts).encode(), digest_size=8).digest())  # noqa: S311 - a script, not a secret


def _count(meter: Meter, delta: Delta) -> None:
    meter.completion_tokens += delta.tokens
    if delta.finish_reason:
        meter.finished.add(delta.index)


def _stopped(said: list[str], stops: Sequence[str]) -> tuple[list[str], int, bool]:
    """The tokens before the first stop string, the number that were generated to complete it, and whether one was."""
    text = "".join(said)
    found = [(at, at + len(stop)) for stop in stops if (at := text.find(stop)) >= 0]
    if not found:
        return said, len(said), False
    start, end = min(found)
    return tokens(text[:start]), len(tokens(text[:end])), True


def _lines(said: list[str]) -> list[list[str]]:
    """Tokens by line: few deltas, and steps still leave one by one."""
    lines: list[list[str]] = [[]]
    for token in said:
        lines[-1].append(token)
        if "\n" in token:
            lines.append([])
    return [line for line in lines if line]


def _logprobs(piece: list[str], certainty: float, most: int) -> tuple[TokenLogprobs, ...]:
    if not most:
        return ()
    return tuple(TokenLogprobs(t, math.log(certainty), scripts.alternatives(t, certainty, most)) for t in piece)


def _finished(index: int, deltas: list[Delta], unseen: int, reason: Literal["stop", "length"]) -> list[Delta]:
    """The deltas with the end on the last one, which also accounts for tokens that are not part of the text."""
    last = deltas.pop() if deltas else Delta(index)
    return [*deltas, Delta(index, last.text, last.tokens + unseen, last.logprobs, reason)]
