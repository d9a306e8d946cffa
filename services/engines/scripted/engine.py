"""A deterministic engine without a model, for tests, load tests and benchmarks.

Its text depends only on the prompt, the sample's index and the seed; latency and failure rates are options. Tokens are
words, runs of white space and single other characters, so counts are exact and easy to check.
"""

import math
import random
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import zip_longest
from typing import Literal

import anyio

from services.call_context import CallContext
from services.contracts.model import Capabilities
from services.engines.generation import Meter, MeteredEngine, tokens_left
from services.engines.protocol import Delta, Generation, GenerationStream, Prompt, TokenLogprobs
from services.engines.scripted.script import Script, alternatives, garbage, plausible
from services.errors import EngineFailed

TEMPLATE_TOKENS = 3
"""Control tokens that the simulated chat template adds to each message."""

SPECIAL_TOKENS = ("<|im_start|>", "<|im_end|>")

REMEMBERED_PROMPTS = 4_096
"""Capacity of the simulated prefix cache, in prompt prefixes."""

CAPABILITIES = Capabilities(prefix=True, logprobs=True, guided=("choice", "json"), score=False, counts="exact")

_TOKEN = re.compile(r"\w+|[^\w\s]|\s+")


def tokens(text: str) -> list[str]:
    """Return the tokens of a text: words, runs of white space, and single other characters, which join to the text."""
    return _TOKEN.findall(text)


@lru_cache(maxsize=256)
def _length(text: str) -> int:
    return len(tokens(text))


@dataclass(frozen=True, slots=True)
class ScriptedOptions:
    """The engine's behaviour. Rates are in [0, 1]; a failure occurs before or in the middle of the text, by seed."""

    script: Script = plausible
    first_token_seconds: float = 0.0
    token_seconds: float = 0.0
    failure_rate: float = 0.0
    garbage_rate: float = 0.0
    context_length: int = 32_768
    capabilities: Capabilities = CAPABILITIES


class ScriptedEngine(MeteredEngine):
    """An engine that plays a script."""

    name = "scripted"
    model = "scripted"
    special_tokens: tuple[str, ...] = SPECIAL_TOKENS

    def __init__(self, options: ScriptedOptions | None = None) -> None:
        super().__init__()
        self.options = options or ScriptedOptions()
        self.context_length = self.options.context_length
        self.capabilities = self.options.capabilities
        self.generations = 0
        self._cache: OrderedDict[bytes, None] = OrderedDict()

    def count(self, prompt: Prompt) -> int:
        """Return the tokens of the prompt, exactly."""
        return _length(prompt.prefix) + sum(TEMPLATE_TOKENS + _length(m.content) for m in prompt.messages)

    @asynccontextmanager
    async def score(self, prompt: Prompt, continuation: str, call: CallContext) -> AsyncGenerator[GenerationStream]:
        """Raise `EngineFailed`: scoring is not supported."""
        del prompt, continuation, call
        raise EngineFailed("the scripted engine does not score")
        yield

    async def check(self) -> None:
        """Do nothing: the engine is always healthy."""

    async def close(self) -> None:
        """Do nothing: there is nothing to free."""

    @asynccontextmanager
    async def generate(self, generation: Generation) -> AsyncGenerator[GenerationStream]:
        """Play the script until it ends or the context is left."""
        prompt_tokens = self.count(generation.prompt)
        most = min(generation.sampling.max_tokens, tokens_left(self.context_length, prompt_tokens))
        meter = Meter(generation.n)
        self.generations += 1
        async with self._generated(meter, self._play(generation, meter, prompt_tokens, most)) as stream:
            yield stream

    async def _play(self, generation: Generation, meter: Meter, prompt_tokens: int, most: int) -> AsyncGenerator[Delta]:
        chance = _source(generation, None)
        fails, at_once = chance.random() < self.options.failure_rate, chance.random() < 0.5  # noqa: PLR2004 - a coin toss
        await anyio.sleep(self.options.first_token_seconds)
        if fails and at_once:
            raise EngineFailed("the script says that this call fails")
        meter.prompt_tokens = prompt_tokens
        meter.cached_tokens = self._cached(generation.prompt)
        samples = [self._sample(generation, index, most) for index in range(generation.n)]
        half = max(map(len, samples)) // 2
        for at, row in enumerate(zip_longest(*samples)):
            if fails and at >= half:
                raise EngineFailed("the script says that this call fails midway")
            if at and self.options.token_seconds:
                await anyio.sleep(self.options.token_seconds)
            for delta in filter(None, row):
                meter.count(delta)
                yield delta

    def _sample(self, generation: Generation, index: int, most: int) -> list[Delta]:
        source = _source(generation, index)
        useless = source.random() < self.options.garbage_rate
        script = tokens(garbage(source) if useless else self.options.script(generation, source))
        text, used, stopped = _stopped(script[:most], generation.sampling.stop)
        finish = "stop" if stopped or len(script) <= most else "length"
        certainty = 0.5 + source.random() * 0.49
        pieces = [[token] for token in text] if self.options.token_seconds else _lines(text)
        deltas = [Delta(index, "".join(p), len(p), _logprobs(p, certainty, generation.top_logprobs)) for p in pieces]
        return _finished(index, deltas, used - len(text), finish)

    def _cached(self, prompt: Prompt) -> int:
        """Return the number of tokens in the leading messages that an earlier prompt also had, as a prefix cache would."""
        cached, hit, key = 0, True, blake2b(digest_size=8)
        for message in prompt.messages:
            key.update(f"{message.role}\n{message.content}\0".encode())
            hit = hit and key.digest() in self._cache
            cached += (TEMPLATE_TOKENS + _length(message.content)) if hit else 0
            self._cache[key.digest()] = None
            self._cache.move_to_end(key.digest())
        while len(self._cache) > REMEMBERED_PROMPTS:
            self._cache.popitem(last=False)
        return cached


def _source(generation: Generation, index: int | None) -> random.Random:
    """Return a generator seeded by the prompt, the seed and the sample, or by the prompt alone for a greedy sample."""
    prompt, sampling = generation.prompt, generation.sampling
    seeded = index is None or sampling.temperature > 0
    parts = [*(f"{m.role}\n{m.content}" for m in prompt.messages), prompt.prefix, f"{sampling.seed} {index}" * seeded]
    return random.Random(blake2b("\0".join(parts).encode(), digest_size=8).digest())  # noqa: S311 - a script, not a secret


def _stopped(script: list[str], stops: Sequence[str]) -> tuple[list[str], int, bool]:
    """Return the tokens before the first stop string, the number generated to complete it, and whether there was one."""
    text = "".join(script)
    matches = [(at, at + len(stop)) for stop in stops if (at := text.find(stop)) >= 0]
    if not matches:
        return script, len(script), False
    start, end = min(matches)
    return tokens(text[:start]), len(tokens(text[:end])), True


def _lines(text: list[str]) -> list[list[str]]:
    """Group tokens by line, which gives few deltas but still separates the steps."""
    lines: list[list[str]] = [[]]
    for token in text:
        lines[-1].append(token)
        if "\n" in token:
            lines.append([])
    return [line for line in lines if line]


def _logprobs(piece: list[str], certainty: float, most: int) -> tuple[TokenLogprobs, ...]:
    if not most:
        return ()
    return tuple(TokenLogprobs(t, math.log(certainty), alternatives(t, certainty, most)) for t in piece)


def _finished(index: int, deltas: list[Delta], unseen: int, reason: Literal["stop", "length"]) -> list[Delta]:
    """Return the deltas with the finish reason on the last one, which also counts tokens that are not part of the text."""
    last = deltas.pop() if deltas else Delta(index)
    return [*deltas, Delta(index, last.text, last.tokens + unseen, last.logprobs, reason)]
