"""Helpers of tests and benchmarks of engines: a prompt, a call, a generation read to its end, an observed engine."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, cast

from services.call_context import CallContext
from services.contracts.messages import Message
from services.contracts.usage import Usage
from services.engines.llama import EmbeddedEngine, EmbeddedOptions, Event, Llama
from services.engines.protocol import ANONYMOUS, Delta, Engine, Generation, Prompt
from services.engines.tokenizers import load_tokenizer, read_gguf

PAUSED_LINES = 3
PAUSED_SECONDS = 20


class GenerationResult(NamedTuple):
    """The whole output of a generation: each sample's text, the usage, and the deltas."""

    texts: list[str]
    usage: Usage
    deltas: list[Delta]


def user_prompt(text: str, prefix: str = "") -> Prompt:
    """Return a prompt of one user message."""
    return Prompt((Message(role="user", content=text),), prefix)


def call_of(session: str = "", tenant: str = "", priority: int = 0) -> CallContext:
    """Return the context of a call."""
    return replace(ANONYMOUS, session_id=session, tenant=tenant, priority=priority)


async def complete(engine: Engine, generation: Generation) -> GenerationResult:
    """Read a generation to its end."""
    texts = [""] * generation.n
    deltas: list[Delta] = []
    async with engine.generate(generation) as stream:
        async for delta in stream:
            texts[delta.index] += delta.text
            deltas.append(delta)
    return GenerationResult(texts, stream.usage, deltas)


class ObservedEngine(EmbeddedEngine):
    """llama.cpp that keeps the token ids of each request and the text of its first sample.

    While `resumed` is not set it pauses after the first `PAUSED_LINES` lines of a text, at most `PAUSED_SECONDS`.
    """

    def __init__(self, options: EmbeddedOptions) -> None:
        self.tokenizer = load_tokenizer(options.model_path)
        self.prompts: list[list[int]] = []
        self.texts: list[str] = []
        self.resumed = threading.Event()
        self.resumed.set()
        super().__init__(options, _ObservedLlama(options, self), self.tokenizer, read_gguf(options.model_path).parameters)

    def specials(self, ids: list[int]) -> list[str]:
        """Return the control tokens among some ids, in order."""
        names = {self.tokenizer.encode(token)[0]: token for token in self.special_tokens}
        return [names[token_id] for token_id in ids if token_id in names]


class _ObservedLlama(Llama):
    def __init__(self, options: EmbeddedOptions, observer: ObservedEngine) -> None:
        super().__init__(options)
        self._observer = observer

    def complete(self, request: Mapping[str, object], on_event: Callable[[Event], bool]) -> None:
        at = len(self._observer.prompts)
        self._observer.prompts.append(cast("list[int]", request["prompt"]))
        self._observer.texts.append("")

        def observed(event: Event) -> bool:
            choices: list[dict[str, Any]] = event.get("choices", [])
            self._observer.texts[at] += "".join(choice["text"] for choice in choices if choice["index"] == 0)
            abort = on_event(event)
            if self._observer.texts[at].count("\n") >= PAUSED_LINES:
                self._observer.resumed.wait(PAUSED_SECONDS)
            return abort

        super().complete(request, observed)
