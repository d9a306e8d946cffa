"""A round: a candidate is explained, refined, and the refinement judged. What it costs, and what it keeps."""

from typing import Literal

from orchestrator import estimate
from orchestrator.budget import Charge
from orchestrator.candidates import Candidate, steps_before_error
from orchestrator.solve import Solve
from services.contracts.critique import Depth

Mode = Literal["rewrite", "rewind", "auto"]
"""How a refinement begins: anew, after the steps before the first error, or after them where that promises more."""


def explanation(solve: Solve, candidate: Candidate) -> Charge:
    """What explaining a candidate is likely to take."""
    return _charges(solve, candidate, "explain")[0]


def require(solve: Solve, candidate: Candidate, *, explained: bool = False, judge: Depth | None = None) -> None:
    """Raise `LimitReached` unless what a round has still to spend is likely to fit.

    That is the explanation, unless it is `explained`; the refinement; and its judgement at `judge`, where that is given.
    """
    explain, refine, judgement = _charges(solve, candidate, judge or "verdict")
    critic = (Charge() if explained else explain) + (judgement if judge else Charge())
    solve.ledger.require(actor=refine, critic=critic)


def kept(solve: Solve, candidate: Candidate, mode: Mode) -> int:
    """Steps that a refinement of `candidate` keeps: those before its first error.

    None in mode `rewrite`, where the error is unknown, and where the engine cannot continue a solution (degraded in
    mode `rewind`). Mode `auto` keeps none either where `candidate` was itself rewound and errs where its parent did.
    """
    before = steps_before_error(candidate)
    if (mode == "rewrite" and candidate.finish_reason != "cancelled") or before == 0:
        return 0
    card = solve.actor.card
    if card is not None and not card.capabilities.prefix:
        if mode == "rewind":
            solve.note("rewind_unavailable", "the actor's engine cannot continue a solution; it was rewritten")
        return 0
    parent = solve.candidates.get(candidate.parent or "")
    again = mode == "auto" and parent is not None and steps_before_error(parent) == before
    return 0 if again else before


def _charges(solve: Solve, candidate: Candidate, judge: Depth) -> tuple[Charge, Charge, Charge]:
    turns = [turn.content for turn in solve.turns]
    return estimate.round_of(solve.critic.card, solve.actor.card, turns, candidate, judge)
