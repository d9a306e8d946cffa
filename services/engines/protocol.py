"""The Engine protocol: an engine runs a model.

An engine takes a prompt and yields deltas. It counts tokens itself, exactly where it can. Cancelling the consumer or leaving
the `generate` context aborts the request inside the engine; once the context has been left, the slot is free.
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
"""The context of a generation that belongs to no request, such as a probe: no session, no tenant, default priority."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages for the model's chat template, and the beginning of the assistant's reply.

    The model continues `prefix`, which is not repeated in the deltas. All texts are already neutralised.
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

    `call` decides where and when the engine runs it, but not its output. Prompts of one session (a solve) begin alike, so
    they go to the same replica. A lower priority runs first. Tenants do not share cached prompts.
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

    Log-probabilities are the model's own, before temperature; under a guide, vLLM's are relative to the allowed tokens.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """New text of one sample. `tokens` were generated for it; `finish_reason` is set on a sample's last delta.

    Text consists of whole characters: an engine holds back incomplete UTF-8 and possible stop strings. A stop string is
    never part of the text, but its tokens are counted.
    """

    index: int
    text: str = ""
    tokens: int = 0
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: Literal["stop", "length"] | None = None


class GenerationStream(Protocol):
    """A generation in progress: iterate over its deltas; `usage` is exact for the tokens computed so far."""

    @property
    def usage(self) -> Usage:
        """Prompt (once for all samples), cached and completion tokens so far."""
        ...

    def __aiter__(self) -> AsyncIterator[Delta]:
        """Iterate over the deltas of all samples, interleaved."""
        ...


class Engine(Protocol):
    """An engine that runs a model.

    Its methods raise `services.errors.EngineFailed` if the engine fails, `EngineDied` if it must be restarted, and
    `ContextExceeded` if the prompt and one token do not fit into the context.
    """

    name: str
    """The engine's kind: `embedded`, `scripted`, `openai`, `vllm`."""
    model: str
    context_length: int
    """Longest prompt + completion, in tokens."""
    parameters: int | None
    """Number of parameters, where known."""
    special_tokens: tuple[str, ...]
    """Control tokens of the model's tokenizer, to be neutralised in text from requests."""
    in_flight: int
    """Generations inside the engine now."""
    metrics: Collector | None
    """The engine's own metrics for the service's `/metrics`; None if it has none."""

    @property
    def capabilities(self) -> Capabilities:
        """The features that the engine supports."""
        ...

    def generate(self, generation: Generation) -> AbstractAsyncContextManager[GenerationStream]:
        """Start generating. Leaving the context aborts what still runs, and waits until the engine has released it."""
        ...

    def score(self, prompt: Prompt, continuation: str, call: CallContext) -> AbstractAsyncContextManager[GenerationStream]:
        """Compute the log-probabilities of `continuation` after `prompt`; the deltas are its tokens.

        Nothing is sampled, so all tokens count as prompt. Needs the `score` capability.
        """
        ...

    def count(self, prompt: Prompt) -> int:
        """Return the number of tokens of a prompt: exact, or an upper bound if `capabilities.counts` is `bounded`."""
        ...

    async def check(self) -> None:
        """Return if the engine works; raise `EngineFailed` otherwise (for `/readyz`)."""
        ...

    async def close(self) -> None:
        """Free the model."""
        ...
