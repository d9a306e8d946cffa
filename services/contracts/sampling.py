"""Sampling parameters."""

from typing import Annotated

from pydantic import Field

from services.contracts.base import Request

MAX_SEED = 2**31 - 1
MAX_COMPLETION_TOKENS = 32_768
"""Longest completion that a request may have, in tokens."""

Stops = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(max_length=8)]
"""Texts before which a completion ends."""


class Sampling(Request):
    """Sampling parameters of one call; `max_tokens` bounds each completion, in tokens."""

    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.7
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_COMPLETION_TOKENS)] = 1024
    stop: Stops = ()
