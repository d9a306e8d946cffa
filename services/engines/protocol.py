"""The Engine protocol: what runs a model.

An engine takes a prompt and yields deltas. It counts tokens itself, exactly where it can. Cancelling the consumer, or
leaving the `generate` context, aborts the request inside the engine; when the context has been left, the slot is free.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from prometheus_client.registry import Collector

from services.call_context import CallContext
from services.contracts.messages import Message
from services.contracts.model import Capabilities
from services.contracts.sampling import Sampling
from services.contracts.usage import Usage

ANONYMOUS = CallContext(request_id="", session_id="", call_id="")
"""The context of a generation that belongs to no request, such as a probe: no session, no tenant, ordinary priority."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages under the model's chat template, and text with which the assistant's reply already begins.

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
class Generation:
    """One request to an engine: `n` samples of a prompt. Sample `k` uses a seed derived from `sampling.seed` and `k`.

    `call` decides where and when the engine runs it, never what comes out. Prompts of one session (a solve) begin alike, so
    they belong on one replica. A lower priority runs first. What is cached for one tenant is not shared with another.
    """

    prompt: Prompt
    sampling: Sampling
    n: int = 1
    guide: Guide | None = None
    top_logprobs: int = 0
    call: CallContext = ANONYMOUS


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A token, its log-probability, and the most likely tokens in its place.

    Log-probabilities are the model's own, before temperature; only vLLM gives those among the tokens that a guide allows.
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


class GenerationStream(Protocol):
    """A generation in progress: iterate its deltas; `usage` is exact for what has been computed so far."""

    @property
    def usage(self) -> Usage:
        """Prompt (once for all samples), cached and completion tokens so far."""
        ...

    def __aiter__(self) -> AsyncIterator[Delta]:
        """Iterate over the deltas of all samples, interleaved."""
        ...


class Engine(Protocol):
    """An engine that runs a model.

    Raises `services.errors.EngineFailed` when the engine fails, `EngineDied` when it has to be started again, and
    `ContextExceeded` when the prompt and one token do not fit.
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
        """The features that the engine supports."""
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
        """The engine's own metrics for the service's `/metrics`; None where it has none."""
        ...

    def generate(self, generation: Generation) -> AbstractAsyncContextManager[GenerationStream]:
        """Start generating; leaving the context aborts what still runs, and waits until the engine has released it."""
        ...

    def score(self, prompt: Prompt, continuation: str, call: CallContext) -> AbstractAsyncContextManager[GenerationStream]:
        """Read `continuation` after `prompt` instead of generating: its tokens are the deltas, with their log-probabilities.

        Nothing is sampled, so all tokens count as prompt. Needs the `score` capability.
        """
        ...

    def count(self, prompt: Prompt) -> int:
        """Return the tokens of the prompt: exact, or an upper bound where `capabilities.counts` is `bounded`."""
        ...

    async def check(self) -> None:
        """Return when the engine works; raise `EngineFailed` otherwise (for /readyz)."""
        ...

    async def close(self) -> None:
        """Free the model."""
        ...
