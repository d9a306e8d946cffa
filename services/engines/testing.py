"""What tests and benchmarks of engines share: a prompt of one turn, a call followed to its end, a readable engine."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from services.contracts.problem import Message
from services.contracts.usage import Usage
from services.engines.embedded import EmbeddedEngine, EmbeddedOptions
from services.engines.gguf_file import read_gguf
from services.engines.llama import Event, Llama
from services.engines.protocol import Delta, Engine, Generation, Prompt
from services.engines.tokenizer import load_tokenizer

HELD_LINES = 3
HELD_SECONDS = 20


class Said(NamedTuple):
    """What a generation gave: each sample's whole text, the usage, and the deltas."""

    texts: list[str]
    usage: Usage
    deltas: list[Delta]


def asking(text: str, prefix: str = "") -> Prompt:
    """One user turn."""
    return Prompt((Message(role="user", content=text),), prefix)


class ReadableEngine(EmbeddedEngine):
    """llama.cpp that keeps the token ids it was sent and the text of each request's first sample.

    While `going` is not set it waits after the first `HELD_LINES` lines that it wrote, at most `HELD_SECONDS`.
    """

    def __init__(self, options: EmbeddedOptions) -> None:
        self.tokenizer = load_tokenizer(options.model_path)
        self.prompts: list[list[int]] = []
        self.texts: list[str] = []
        self.going = threading.Event()
        self.going.set()
        super().__init__(options, _Tapped(options, self), self.tokenizer, read_gguf(options.model_path).parameters)

    def specials(self, ids: list[int]) -> list[str]:
        """The control tokens among some ids, in order."""
        names = {self.tokenizer.encode(token)[0]: token for token in self.special_tokens}
        return [names[place] for place in ids if place in names]


class _Tapped(Llama):
    def __init__(self, options: EmbeddedOptions, reader: ReadableEngine) -> None:
        super().__init__(
            options.model_path,
            context_length=options.context_length,
            slots=options.slots,
            threads=options.threads,
            batch=options.batch,
        )
        self._reader = reader

    def complete(self, request: Mapping[str, object], on_event: Callable[[Event], bool]) -> None:
        at = len(self._reader.prompts)
        self._reader.prompts.append(cast("list[int]", request["prompt"]))
        self._reader.texts.append("")

        def tapped(event: Event) -> bool:
            choices: list[dict[str, Any]] = event.get("choices", [])
            self._reader.texts[at] += "".join(choice["text"] for choice in choices if choice["index"] == 0)
            go_on = on_event(event)
            if self._reader.texts[at].count("\n") >= HELD_LINES:
                self._reader.going.wait(HELD_SECONDS)
            return go_on

        super().complete(request, tapped)


async def said(engine: Engine, call: Generation) -> Said:
    """Follow a generation to its end."""
    texts = [""] * call.n
    deltas: list[Delta] = []
    async with engine.generate(call) as running:
        async for delta in running:
            texts[delta.index] += delta.text
            deltas.append(delta)
    return Said(texts, running.usage, deltas)
