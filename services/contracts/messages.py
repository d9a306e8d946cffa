"""The problem of a request: one string, or the messages of a conversation."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from services.contracts.base import FilledText, Request, Text

MAX_MESSAGES = 256
"""Longest conversation, in messages."""


class Message(Request):
    """A message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text


class ProblemRequest(Request):
    """Base of every request that carries a problem: `problem` or `messages`, exactly one of them."""

    problem: FilledText | None = None
    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=MAX_MESSAGES)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.problem is None) == (self.messages is None):
            msg = "give exactly one of 'problem' and 'messages'"
            raise ValueError(msg)
        if self.messages is not None and not any(m.role == "user" and m.content.strip() for m in self.messages):
            msg = "'messages' needs at least one user message that is not blank"
            raise ValueError(msg)
        return self

    @property
    def as_messages(self) -> tuple[Message, ...]:
        """The conversation; a plain problem is one user message."""
        if self.messages is not None:
            return self.messages
        return (Message(role="user", content=self.problem or ""),)
