"""What tests and benchmarks of engines share: a prompt of one turn, and a call that is followed to its end."""

from typing import NamedTuple

from services.contracts.problem import Message
from services.contracts.usage import Usage
from services.engines.protocol import Delta, Engine, Generation, Prompt


class Said(NamedTuple):
    """What a generation gave: each sample's whole text, the usage, and the deltas."""

    texts: list[str]
    usage: Usage
    deltas: list[Delta]


def asking(text: str, prefix: str = "") -> Prompt:
    """One user turn."""
    return Prompt((Message(role="user", content=text),), prefix)


async def said(engine: Engine, call: Generation) -> Said:
    """Follow a generation to its end."""
    texts = [""] * call.n
    deltas: list[Delta] = []
    async with engine.generate(call) as running:
        async for delta in running:
            texts[delta.index] += delta.text
            deltas.append(delta)
    return Said(texts, running.usage, deltas)
