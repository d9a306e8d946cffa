"""A critic measured in the loop (RealCritic, arXiv 2501.14492): a critique is worth the correction that it leads to.

The actor drafts, the critic explains every solution, right or wrong, and the actor refines by the critique, round after
round (the published setting, without a gate). The kind is `self` where both roles serve one model and `cross` where they do
not. The critic is also measured by itself: how often its verdict and, where an oracle knows it, its first error are true.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from evaluation.problem_sets import ProblemItem, grade
from evaluation.role_clients import RoleClients, first_error
from evaluation.rows import CriticLoopRow, RoundCritiqueRow, SolutionRow
from evaluation.runs import OnProgress
from evaluation.statistics import balanced, mean
from orchestrator.answers import AnswerEquivalence
from pocket.calibration import calibration_error
from services.contracts.model import ModelCard
from services.jsonl import resume

MAX_ROUNDS = 8


async def run_loop(
    clients: RoleClients, answers: AnswerEquivalence, rounds: int, seed: int, temperature: float, item: ProblemItem
) -> CriticLoopRow:
    """Draft, critique and refine for each round, and critique the last refinement too; every solution is graded."""
    solutions: list[SolutionRow] = []
    critiques: list[RoundCritiqueRow] = []
    candidate, total = await clients.draft(item, seed, temperature)
    for number in range(rounds + 1):
        right = await grade(answers, candidate.answer, item)
        solutions.append(SolutionRow(right=right, answer=candidate.answer, text=candidate.text))
        steps = [step.text for step in candidate.steps] or [candidate.text or "(nothing)"]
        critique, usage = await clients.critique(item, steps)
        total += usage
        located = item.source is not None
        true_first_error = first_error(item, candidate.text) if located else None
        critiques.append(RoundCritiqueRow.of(critique, true_first_error, located=located))
        if number < rounds:
            candidate, usage = await clients.refine(item, candidate.text, critique)
            total += usage
    return CriticLoopRow(
        id=item.id,
        level=item.level,
        solutions=tuple(solutions),
        critiques=tuple(critiques),
        tokens=total.total_tokens,
    )


async def measure(
    clients: RoleClients,
    items: Sequence[ProblemItem],
    rounds: int,
    seed: int,
    temperature: float,
    out: Path,
    on_progress: OnProgress,
) -> list[str]:
    """Run the loop on the problems that have no row in `out`; return the lines of the table."""
    kind = await _kind(clients)
    answers = AnswerEquivalence()
    loop = partial(run_loop, clients, answers, rounds, seed, temperature)
    name = f"critic-{kind}-{rounds}-at-{temperature}-seed-{seed}"
    async with answers.running():
        rows = await resume(out / f"{name}.jsonl", CriticLoopRow, items, loop, partial(on_progress, name))
    return [*_round_lines(rows, rounds, kind), *_critic_lines(rows)]


async def _kind(clients: RoleClients) -> str:
    responses = [await client.get("/v1/model") for client in (clients.actor, clients.critic)]
    actor, critic = (ModelCard.model_validate(response.raise_for_status().json()).model for response in responses)
    return "self" if actor == critic else "cross"


def _round_lines(rows: Sequence[CriticLoopRow], rounds: int, kind: str) -> list[str]:
    """Return the accuracy before any critique, and the accuracy and the flows of each round."""
    lines = [f"{kind}-critique, {len(rows)} problems, {sum(row.tokens for row in rows) / len(rows):.0f} tokens each"]
    lines.append(_line("right before any critique (acc_before)", mean([row.solutions[0].right for row in rows])))
    for number in range(1, rounds + 1):
        pairs = [(row.solutions[number - 1].right, row.solutions[number].right) for row in rows]
        flows = {f"{a}2{b}": sum((x, y) == (a == "c", b == "c") for x, y in pairs) for a in "ci" for b in "ci"}
        lines += [
            _line(f"after round {number} (acc_after)", mean([after for _, after in pairs])),
            _line("  change of the round", mean([float(after) - float(before) for before, after in pairs])),
            _line("  i2c, of the wrong ones", mean([after for before, after in pairs if not before])),
            _line("  c2i, of the right ones", mean([not after for before, after in pairs if before])),
            "  of all: " + ", ".join(f"{flow} {100 * n / len(rows):.1f}" for flow, n in flows.items()),
        ]
    return lines


def _critic_lines(rows: Sequence[CriticLoopRow]) -> list[str]:
    """Return the figures of the critic by itself, from its critiques of the first drafts."""
    first = [(row.solutions[0].right, row.critiques[0], row.solutions[1].right) for row in rows]
    accepted = [critique.verdict == "correct" for right, critique, _ in first if right]
    rejected = [critique.verdict == "incorrect" for right, critique, _ in first if not right]
    true = mean([(critique.verdict == "correct") == right for right, critique, _ in first])
    lines = ["the critic by itself, on the first drafts", _line("verdict is the truth (discriminability)", true)]
    if accepted and rejected:
        lines.append(_line("  balanced over right and wrong", balanced(accepted, rejected)))
    lines += [_line("  right ones passed", mean(accepted)), _line("  wrong ones caught", mean(rejected))]
    corrected = [after for right, critique, after in first if not right and critique.verdict == "incorrect"]
    lines.append(_line("refinement right where wrong and caught (helpfulness)", mean(corrected)))
    judged = [(critique.p_correct, right) for right, critique, _ in first if critique.p_correct is not None]
    if judged:
        lines.append(_line("calibration error of p_correct", f"{calibration_error(*zip(*judged, strict=True)):.3f}"))
    wrong = [critique for _, critique, _ in first if critique.located and critique.true_first_error is not None]
    if wrong:
        lines.append(_line("first error located", mean([critique.locates_error for critique in wrong])))
    return [*lines, _line("unparsable critiques", mean([critique.unparsable for _, critique, _ in first]))]


def _line(name: str, value: object) -> str:
    return f"  {name:<56}{value}"
