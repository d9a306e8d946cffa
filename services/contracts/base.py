"""The bases of all wire types, and the types of their fields.

A `Request` is sent by a client: unknown fields are refused, so that a typing mistake is an error. A `Reply` is sent by a
service: unknown fields are ignored, so that an older client can read a newer service.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_TEXT_CHARS = 65_536
"""Longest problem, message or step, in characters; about 16k tokens of English, more than any embedded context."""


class Reply(BaseModel):
    """Base of everything that a service sends: frozen, unknown fields are ignored when it is read."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Request(BaseModel):
    """Base of everything that a client sends: frozen, unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _no_null_bytes(text: str) -> str:
    if "\x00" in text:
        msg = "must not contain null bytes"
        raise ValueError(msg)
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        msg = "must not be blank"
        raise ValueError(msg)
    return text


Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS), AfterValidator(_no_null_bytes)]
"""Text that may be empty; at most `MAX_TEXT_CHARS` characters, no null bytes."""

FilledText = Annotated[
    str, Field(min_length=1, max_length=MAX_TEXT_CHARS), AfterValidator(_no_null_bytes), AfterValidator(_not_blank)
]
"""Text with at least one visible character."""

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
