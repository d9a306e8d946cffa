"""How long a prompt will be, before the role service has counted it.

Byte-level tokenizers never produce more tokens than UTF-8 bytes, so bytes plus the prompt's overhead (`/v1/model`) are a
bound; a third of the bytes is the likely length. Leases start from these; the role service's own count decides.
"""

from collections.abc import Iterable, Sequence
from math import ceil

from orchestrator.budget import Charge, Want
from orchestrator.candidates import Candidate
from services.contracts.critique import Depth
from services.contracts.model import ModelCard

LIKELY_BYTES_PER_TOKEN = 3.0
"""English mathematics has 3 to 4 bytes a token under common tokenizers; fewer means a longer, safer estimate."""

DEFAULT_OVERHEAD = 512
"""Prompt tokens of a verb whose overhead is unknown, since the service has not been reached."""

STEP_TOKENS = 8
"""Markers, label and punctuation that a prompt or a critique spends on each step."""

EXPLANATION_TOKENS = 192
"""A critique in words, likely, before one of the same solve is known."""


def prompt(
    card: ModelCard | None, verb: str, texts: Iterable[str], bytes_per_token: float = LIKELY_BYTES_PER_TOKEN
) -> tuple[int, int]:
    """Bound and likely length, in tokens, of the prompt for `verb` with these texts."""
    overhead = card.overhead.get(verb, DEFAULT_OVERHEAD) if card else DEFAULT_OVERHEAD
    parts = [len(text.encode()) + STEP_TOKENS for text in texts]
    return overhead + sum(parts), overhead + ceil(sum(parts) / bytes_per_token)


def density(candidate: Candidate) -> float:
    """Bytes a token: those of `candidate`'s own text where it was written in one go, else the likely ones."""
    if candidate.parent is not None or candidate.finish_reason == "cancelled" or not candidate.completion_tokens:
        return LIKELY_BYTES_PER_TOKEN
    return max(1.0, len(candidate.text.encode()) / candidate.completion_tokens)


def length(candidate: Candidate, after: int = 0) -> int:
    """Likely tokens of `candidate` after so many steps."""
    return ceil(sum(len(step.text.encode()) + 1 for step in candidate.steps[after:]) / density(candidate))


def critique_completion(depth: Depth, steps: int, max_tokens: int) -> int:
    """Most completion tokens that a critique at `depth` of `steps` steps should take."""
    return {"verdict": STEP_TOKENS, "labels": STEP_TOKENS * (steps + 2), "explain": max_tokens}[depth]


def judging(
    card: ModelCard | None, depth: Depth, turns: Iterable[str], steps: int, explanation: int = EXPLANATION_TOKENS
) -> Want:
    """What judging a solution takes beside the solution's own tokens (which the caller adds)."""
    bound, likely = prompt(card, depth, turns)
    markers = card.markers.get(depth, STEP_TOKENS) if card else STEP_TOKENS
    completion = critique_completion(depth, steps, explanation)
    return Want(
        bound=bound + STEP_TOKENS * steps, likely=likely + markers * steps, completion=completion, reads=reads(card, depth)
    )


def explanation(candidate: Candidate | None) -> int:
    """Likely tokens of a critique in words of what `candidate` becomes: as many a step as its own critique took."""
    if candidate is None or not candidate.critique_tokens or not candidate.judged_at("explain"):
        return EXPLANATION_TOKENS
    read = candidate.first_error or len(candidate.steps)
    return ceil(candidate.critique_tokens * len(candidate.steps) / read) + STEP_TOKENS


def critiquing(card: ModelCard | None, depth: Depth, turns: Iterable[str], steps: Iterable[str]) -> tuple[int, int]:
    """Bound and likely length of the prompt that has these steps judged."""
    bound, likely = prompt(card, depth, turns)
    parts = [len(text.encode()) + STEP_TOKENS for text in steps]
    much = reads(card, depth) * sum(parts)
    return bound + ceil(much), likely + ceil(much / LIKELY_BYTES_PER_TOKEN)


def reads(card: ModelCard | None, depth: Depth) -> float:
    """Tokens that judging reads for each token of the solution."""
    return card.reads.get(depth, 1.0) if card else 1.0


def refining(card: ModelCard | None, turns: Iterable[str], original: Candidate) -> tuple[int, int]:
    """Bound and likely length of the prompt that hands a solution and its critique back to the actor."""
    words = [said.text for said in original.critique.explanations] if original.critique else []
    bound, likely = prompt(card, "refine", [*turns, original.text, *words], density(original))
    return bound + STEP_TOKENS * len(original.steps), likely


def round_of(
    critic: ModelCard | None, actor: ModelCard | None, turns: Sequence[str], candidate: Candidate, judge: Depth
) -> tuple[Charge, Charge, Charge]:
    """Likely charges of one round on `candidate`: its explanation, a refinement as long as it, and that one's judgement."""
    steps = len(candidate.steps)
    written = length(candidate)
    explain, verdict = (judging(critic, depth, turns, steps, explanation(candidate)) for depth in ("explain", judge))
    _, refine = refining(actor, turns, candidate)
    return (
        _likely(explain.likely + ceil(explain.reads * written), STEP_TOKENS * 4),
        _likely(refine, written),
        _likely(verdict.likely + ceil(verdict.reads * written), verdict.completion),
    )


def _likely(prompt_tokens: int, completion: int) -> Charge:
    return Charge(prompt_tokens + completion, completion, 1)
