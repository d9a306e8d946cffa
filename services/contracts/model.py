"""The model card of a role service, `GET /v1/model`."""

from typing import Literal

from pydantic import Field

from services.contracts.base import Probability, Reply
from services.contracts.critique import Depth


class Capabilities(Reply):
    """The features of an engine. A missing one has a documented fallback."""

    prefix: bool
    """Continuing an assistant message that has begun (rewind)."""
    logprobs: bool
    """Top log-probabilities of generated tokens (p_correct)."""
    guided: tuple[Literal["choice", "regex", "json", "grammar"], ...]
    """Kinds of guided decoding."""
    score: bool
    """Log-probabilities of a given text."""
    counts: Literal["exact", "bounded"]
    """Prompt tokens are counted exactly before the call, or bounded by their UTF-8 bytes."""


class ModelCard(Reply):
    """The model of a role service, its engine, and the features of both."""

    role: Literal["actor", "critic"]
    model: str
    engine: str
    dialect: str
    context_length: int
    parameters: int | None
    capabilities: Capabilities
    counts: Literal["exact", "bounded"]
    overhead: dict[str, int]
    """Prompt tokens of each verb (`draft`, `refine`) or depth with empty texts."""
    reads: dict[str, float] = Field(default_factory=dict)
    """Tokens read per token of the solution at each depth; 1 if the depth is missing (critic only)."""
    markers: dict[str, int] = Field(default_factory=dict)
    """Prompt tokens per step at each depth, in addition to its text (critic only)."""
    depths: tuple[Depth, ...] = ()
    prior: Probability = 0.5
    """p_correct of a candidate whose critique is missing or unparsable (critic only)."""
