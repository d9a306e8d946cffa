"""The allowance and the usage of calls, in tokens."""

from typing import Annotated, Self

from pydantic import Field

from services.contracts.base import Reply, Request

Count = Annotated[int, Field(ge=0)]


class Allowance(Request):
    """The tokens that one call may spend on all its samples: in total (`max_tokens`), and on completions alone."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None


class Usage(Reply):
    """Tokens of one or more calls. `cached_tokens` is the part of `prompt_tokens` that was in the engine's cache."""

    prompt_tokens: Count = 0
    cached_tokens: Count = 0
    completion_tokens: Count = 0

    @property
    def total_tokens(self) -> int:
        """Prompt (cached included) plus completion, in tokens."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Self) -> Self:
        """Add the usage of other calls."""
        return type(self)(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )
