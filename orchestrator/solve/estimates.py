"""Estimates of what calls and rounds take, before the role service has counted a prompt.

A byte-level tokenizer never produces more tokens than there are UTF-8 bytes, so bytes plus the prompt's overhead (from
`/v1/model`) are an upper bound, and a third of the bytes is the expectation. Leases start from these numbers; the role
service's own count decides.

A round explains a candidate, refines it, and judges the refinement.
"""

from collections.abc import Iterable
from math import ceil
from typing import Literal

from orchestrator.budget import CallSize, Charge
from orchestrator.candidates import Candidate, steps_before_error
from orchestrator.solve.state import Solve
from services.contracts.critique import Depth
from services.contracts.model import ModelCard

BYTES_PER_TOKEN = 3.0
"""English mathematics has 3 to 4 bytes per token under common tokenizers; fewer means a longer, safer estimate."""

DEFAULT_OVERHEAD = 512
"""Prompt tokens of a verb whose overhead is unknown because the service has not been reached."""

STEP_TOKENS = 8
"""Markers, label and punctuation that a prompt or a critique spends on each step."""

EXPLANATION_TOKENS = 192
"""Expected length of a critique in words, before one of the same solve is known."""

Mode = Literal["rewrite", "rewind", "auto"]
"""The start of a refinement: from nothing, after the steps before the first error, or whichever of the two promises more."""


def prompt_size(
    card: ModelCard | None, verb: str, texts: Iterable[str], bytes_per_token: float = BYTES_PER_TOKEN
) -> tuple[int, int]:
    """Return the bound and the expected length, in tokens, of the prompt for `verb` with these texts."""
    overhead = card.overhead.get(verb, DEFAULT_OVERHEAD) if card else DEFAULT_OVERHEAD
    size = sum(len(text.encode()) + STEP_TOKENS for text in texts)
    return overhead + size, overhead + ceil(size / bytes_per_token)


def density(candidate: Candidate) -> float:
    """Return bytes per token: those of the candidate's own text if one call wrote all of it, else the expected ones."""
    if candidate.parent is not None or candidate.finish_reason == "cancelled" or not candidate.completion_tokens:
        return BYTES_PER_TOKEN
    return max(1.0, len(candidate.text.encode()) / candidate.completion_tokens)


def length(candidate: Candidate, after: int = 0) -> int:
    """Return the expected tokens of a candidate's steps after the first `after`."""
    return ceil(sum(len(step.text.encode()) + 1 for step in candidate.steps[after:]) / density(candidate))


def critique_completion(depth: Depth, steps: int, max_tokens: int) -> int:
    """Return the most completion tokens that a critique at `depth` of `steps` steps should take."""
    return {"verdict": STEP_TOKENS, "labels": STEP_TOKENS * (steps + 2), "explain": max_tokens}[depth]


def judgement_size(solve: Solve, depth: Depth, steps: int, explanation: int) -> CallSize:
    """Return the size of judging a solution of `steps` steps, without the tokens of the solution itself."""
    card = solve.critic.card
    bound, expected = prompt_size(card, depth, solve.texts)
    markers = card.markers.get(depth, STEP_TOKENS) if card else STEP_TOKENS
    return CallSize(
        max_prompt=bound + STEP_TOKENS * steps,
        expected_prompt=expected + markers * steps,
        max_completion=critique_completion(depth, steps, explanation),
        reads=reads(card, depth),
    )


def explanation_tokens(candidate: Candidate | None) -> int:
    """Return the expected tokens of a critique in words of a candidate's refinement: per step, as its own critique took."""
    if candidate is None or not candidate.critique_tokens or not candidate.judged_at("explain"):
        return EXPLANATION_TOKENS
    explained = candidate.first_error or len(candidate.steps)
    return ceil(candidate.critique_tokens * len(candidate.steps) / explained) + STEP_TOKENS


def critique_prompt(solve: Solve, depth: Depth, steps: Iterable[str]) -> tuple[int, int]:
    """Return the bound and the expected length, in tokens, of the prompt for judging these steps."""
    bound, expected = prompt_size(solve.critic.card, depth, solve.texts)
    size = reads(solve.critic.card, depth) * sum(len(text.encode()) + STEP_TOKENS for text in steps)
    return bound + ceil(size), expected + ceil(size / BYTES_PER_TOKEN)


def reads(card: ModelCard | None, depth: Depth) -> float:
    """Return the tokens that judging at a depth reads for each token of the solution."""
    return card.reads.get(depth, 1.0) if card else 1.0


def refine_prompt(solve: Solve, original: Candidate) -> tuple[int, int]:
    """Return the bound and the expected length, in tokens, of the prompt with a solution and its critique."""
    explanations = [entry.text for entry in original.critique.explanations] if original.critique else []
    bound, expected = prompt_size(
        solve.actor.card, "refine", [*solve.texts, original.text, *explanations], density(original)
    )
    return bound + STEP_TOKENS * len(original.steps), expected


def explanation_charge(solve: Solve, candidate: Candidate) -> Charge:
    """Return the expected charge of explaining a candidate."""
    return _round_charges(solve, candidate, "explain")[0]


def require_round(solve: Solve, candidate: Candidate, *, explained: bool = False, judge: Depth | None = None) -> None:
    """Raise `LimitReached` unless the rest of a round is expected to fit.

    That is the explanation, unless the candidate is `explained`; the refinement; and its judgement at `judge`, if given.
    """
    explain, refine, judgement = _round_charges(solve, candidate, judge or "verdict")
    critic = (Charge() if explained else explain) + (judgement if judge else Charge())
    solve.ledger.require(actor=refine, critic=critic)


def steps_to_keep(solve: Solve, candidate: Candidate, mode: Mode) -> int:
    """Return the number of steps that a refinement of `candidate` keeps: those before its first error.

    None are kept in mode `rewrite`, where the error is unknown, and where the engine cannot continue a solution (degraded
    in mode `rewind`). In mode `auto` none are kept either if `candidate` was itself rewound and fails where its parent did.
    """
    before = steps_before_error(candidate)
    if (mode == "rewrite" and candidate.finish_reason != "cancelled") or before == 0:
        return 0
    card = solve.actor.card
    if card is not None and not card.capabilities.prefix:
        if mode == "rewind":
            solve.degrade("rewind_unavailable", "the actor's engine cannot continue a solution; it was rewritten")
        return 0
    parent = solve.candidates.get(candidate.parent)
    repeated = mode == "auto" and parent is not None and steps_before_error(parent) == before
    return 0 if repeated else before


def _round_charges(solve: Solve, candidate: Candidate, judge: Depth) -> tuple[Charge, Charge, Charge]:
    """Return the expected charges of a round: an explanation, a refinement of the same length, and its judgement."""
    steps, tokens, words = len(candidate.steps), length(candidate), explanation_tokens(candidate)
    explain, verdict = (judgement_size(solve, depth, steps, words) for depth in ("explain", judge))
    _, refine = refine_prompt(solve, candidate)
    return (
        _charge(explain.expected_prompt + ceil(explain.reads * tokens), STEP_TOKENS * 4),
        _charge(refine, tokens),
        _charge(verdict.expected_prompt + ceil(verdict.reads * tokens), verdict.max_completion),
    )


def _charge(prompt: int, completion: int) -> Charge:
    return Charge(prompt + completion, completion, 1)
