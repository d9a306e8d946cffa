"""The protocol of an actor's dialect."""

from typing import Literal, Protocol

from services.contracts.critique import Critique
from services.contracts.messages import Message
from services.engines.protocol import Prompt

MAX_CRITIQUE_CHARS = 4_000
"""Maximum length of a critique in the actor's prompt; a longer one is cut."""

Messages = tuple[Message, ...]


class ActorDialect(Protocol):
    """The prompts for a solution, for a whole new one, and for one that continues after kept steps."""

    @property
    def name(self) -> str:
        """The dialect's name."""
        ...

    def draft(self, messages: Messages) -> Prompt:
        """Return the prompt for a first attempt."""
        ...

    def rewrite(self, messages: Messages, solution: str, critique: Critique | None) -> Prompt:
        """Return the prompt for a new complete solution."""
        ...

    def rewind(self, messages: Messages, solution: str, kept: str, critique: Critique | None) -> Prompt:
        """Return the prompt for a solution that continues `kept`, the first part of `solution`."""
        ...


def message(role: Literal["user", "assistant"], content: str) -> Message:
    """Return a message of valid texts, without validation: together they may be longer than a message may be."""
    return Message.model_construct(role=role, content=content)
