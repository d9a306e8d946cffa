"""What a role service says about itself at `GET /v1/model`."""

from typing import Literal

from pydantic import Field

from services.contracts.base import Probability, Reply
from services.contracts.critique import Depth


class Capabilities(Reply):
    """What an engine can do; what it lacks degrades by a documented rule, never silently."""

    prefix: bool
    """Continue an assistant turn that has begun (rewind)."""
    logprobs: bool
    """Top log-probabilities of generated tokens (p_correct)."""
    guided: tuple[Literal["choice", "regex", "json", "grammar"], ...]
    """Kinds of guided decoding."""
    score: bool
    """Log-probabilities of a given text."""
    counts: Literal["exact", "bounded"]
    """Whether prompt tokens are counted before the call or bounded by UTF-8 bytes."""


class ModelCard(Reply):
    """`GET /v1/model`."""

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
    """Tokens that judging at a depth reads for each token of the solution; 1 where it is not named (critic only)."""
    markers: dict[str, int] = Field(default_factory=dict)
    """Prompt tokens that each step takes at a depth beside its text (critic only)."""
    depths: tuple[Depth, ...] = ()
    prior: Probability = 0.5
    """p_correct of a candidate whose critique is missing or unparsable (critic only)."""
