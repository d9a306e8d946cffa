"""The Engine protocol: what runs a model.

An engine takes a prompt and yields deltas. It counts tokens itself, exactly where it can. Cancelling the consumer, or
leaving the `generate` context, aborts the request inside the engine; when the context has been left, the slot is free.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from prometheus_client.registry import Collector

from services.contracts.model import Capabilities
from services.contracts.problem import Message
from services.contracts.sampling import Sampling
from services.contracts.usage import Usage


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages under the model's chat template, and text with which the assistant's turn already begins.

    `prefix` is continued by the model and is not repeated in the deltas. Texts are already neutralised.
    """

    messages: tuple[Message, ...]
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Guide:
    """A constraint on the generated text.

    `choice`: one of `value` (a tuple of strings). `regex`, `json` (a JSON schema), `grammar` (GBNF): `value` is text.
    """

    kind: Literal["choice", "regex", "json", "grammar"]
    value: str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom an engine works for: decides where and when it runs, never what comes out.

    Prompts of one `session` (a solve) begin alike, so they belong on one replica. A lower `priority` runs first. What is
    cached for one `tenant` is not shared with another.
    """

    session: str = ""
    priority: int = 0
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Generation:
    """One call of an engine: `n` samples of a prompt. Sample `k` uses a seed derived from `sampling.seed` and `k`."""

    prompt: Prompt
    sampling: Sampling
    n: int = 1
    guide: Guide | None = None
    top_logprobs: int = 0
    caller: Caller = field(default_factory=Caller)


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A token, its log-probability, and the most likely tokens at its place.

    Log-probabilities are the model's own, before temperature; vLLM alone gives those among the tokens that a guide allows.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """New text of one sample. `tokens` were generated for it; `finish_reason` is set on a sample's last delta.

    Text is always whole characters: an engine holds back incomplete UTF-8 and possible stop strings. A stop string is
    never part of the text; the tokens it took are counted.
    """

    index: int
    text: str = ""
    tokens: int = 0
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: Literal["stop", "length"] | None = None


class Running(Protocol):
    """A generation in progress: iterate its deltas; `usage` is exact for what has been computed so far."""

    @property
    def usage(self) -> Usage:
        """Prompt (once for all samples), cached and completion tokens so far."""
        ...

    def __aiter__(self) -> AsyncIterator[Delta]:
        """Deltas of all samples, interleaved."""
        ...


class Engine(Protocol):
    """What runs a model.

    Raises `services.errors.EngineFailed` when the engine fails, `EngineDied` when it has to be started again, and
    `ContextExceeded` when prompt + 1 token does not fit.
    """

    @property
    def name(self) -> str:
        """The engine's kind: `embedded`, `scripted`, `openai`, `vllm`."""
        ...

    @property
    def model(self) -> str:
        """The model's name."""
        ...

    @property
    def context_length(self) -> int:
        """Longest prompt + completion, in tokens."""
        ...

    @property
    def parameters(self) -> int | None:
        """Number of parameters, where known."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can do."""
        ...

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Control tokens of the model's tokenizer, to be neutralised in text that others wrote."""
        ...

    @property
    def in_flight(self) -> int:
        """Requests inside the engine now."""
        ...

    @property
    def metrics(self) -> Collector | None:
        """What the engine measures of itself, for the service's `/metrics`; None where it does not."""
        ...

    def generate(self, generation: Generation) -> AbstractAsyncContextManager[Running]:
        """Start generating; leaving the context aborts what still runs, and waits until the engine has let go."""
        ...

    def score(self, prompt: Prompt, continuation: str, caller: Caller) -> AbstractAsyncContextManager[Running]:
        """Read `continuation` after `prompt` instead of writing: its tokens come as deltas with their log-probabilities.

        Nothing is sampled, so all tokens count as prompt. Needs the `score` capability.
        """
        ...

    def count(self, prompt: Prompt) -> int:
        """Tokens of the prompt: exact, or an upper bound where `capabilities.counts` is `bounded`."""
        ...

    async def check(self) -> None:
        """Return when the engine works; raise `EngineFailed` otherwise (for /readyz)."""
        ...

    async def close(self) -> None:
        """Free the model."""
        ...


@dataclass(slots=True)
class Meter:
    """Mutable account of a generation, shared by engines: `usage` is its frozen view."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    finished: set[int] = field(default_factory=set)

    @property
    def usage(self) -> Usage:
        """The account so far."""
        return Usage(
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
        )
