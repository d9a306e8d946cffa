"""A critic measured in the loop (RealCritic, arXiv 2501.14492): a critique is worth the correction that it leads to.

The actor drafts; the critic explains every draft, right or wrong; the actor refines by it; round after round (the published
setting: nothing is gated). `self` where both roles serve one model, `cross` where they do not, iterative from the second
round on. Beside it, what the critic says taken by itself: whether its verdict is the truth, and, where an oracle knows it,
whether it finds the first error.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation import supervision
from evaluation.items import Item
from evaluation.runs import Progress, Row, graded, rows_of
from evaluation.statistics import balanced, calibration_error, mean
from evaluation.supervision import Services
from orchestrator.answers import AnswerEquivalence
from services.contracts.calls import CandidateEvent
from services.contracts.critique import Critique
from services.contracts.model import ModelCard
from services.contracts.usage import Usage

MAX_ROUNDS = 8


@dataclass(slots=True)
class Loop:
    """One problem going round: every draft and refinement graded, every critique kept."""

    services: Services
    answers: AnswerEquivalence
    item: Item
    rounds: int
    solutions: list[Row] = field(default_factory=list[Row])
    critiques: list[Row] = field(default_factory=list[Row])
    usage: Usage = field(default_factory=Usage)

    async def run(self, seed: int, temperature: float) -> Row:
        """Draft, then critique and refine, and judge the last one too."""
        latest = await self._written(self.services.draft(self.item, seed, temperature))
        for _ in range(self.rounds):
            critique = await self._judged(latest)
            latest = await self._written(self.services.refine(self.item, latest.text, critique))
        await self._judged(latest)
        return {"solutions": self.solutions, "critiques": self.critiques, "tokens": self.usage.total_tokens}

    async def _written(self, writing: Awaitable[tuple[CandidateEvent, Usage]]) -> CandidateEvent:
        candidate, usage = await writing
        self.usage += usage
        right = await graded(self.answers, candidate.answer, self.item)
        self.solutions.append({"right": right, "answer": candidate.answer, "text": candidate.text})
        return candidate

    async def _judged(self, candidate: CandidateEvent) -> Critique:
        steps = [step.text for step in candidate.steps] or [candidate.text or "(nothing)"]
        critique, usage = await self.services.explain(self.item, steps)
        self.usage += usage
        known = self.item.source is not None
        self.critiques.append(
            {
                "verdict": critique.verdict,
                "p_correct": critique.p_correct,
                "first_error": critique.first_error,
                "true_first_error": supervision.first_error(self.item, candidate.text) if known else None,
                "located": known,
                "unparsable": critique.unparsable,
            }
        )
        return critique


async def measure(
    services: Services, items: Sequence[Item], rounds: int, seed: int, temperature: float, out: Path, progress: Progress
) -> list[str]:
    """Run what is missing in `out`; the lines of the table."""
    kind = await _kind(services)
    answers = AnswerEquivalence()

    async def loop(item: Item) -> Row:
        return await Loop(services, answers, item, rounds).run(seed, temperature)

    name = f"critic-{kind}-{rounds}-at-{temperature}-seed-{seed}"
    async with answers.running():
        rows = await rows_of(out / f"{name}.jsonl", items, loop, lambda done, total: progress(name, done, total))
    return [*_loop(rows, rounds, kind), *_alone(rows)]


async def _kind(services: Services) -> str:
    answers = [await client.get("/v1/model") for client in (services.actor, services.critic)]
    actor, critic = (ModelCard.model_validate(answer.raise_for_status().json()).model for answer in answers)
    return "self" if actor == critic else "cross"


def _loop(rows: Sequence[Row], rounds: int, kind: str) -> list[str]:
    said = [f"{kind}-critique, {len(rows)} problems, {sum(row['tokens'] for row in rows) / len(rows):.0f} tokens each"]
    say = _sayer(said)
    say("right before any critique (acc_before)", mean([row["solutions"][0]["right"] for row in rows]))
    for turn in range(1, rounds + 1):
        pairs = [(row["solutions"][turn - 1]["right"], row["solutions"][turn]["right"]) for row in rows]
        say(f"after round {turn} (acc_after)", mean([after for _, after in pairs]))
        say("  change of the round", mean([float(after) - float(before) for before, after in pairs]))
        say("  i2c, of the wrong ones", mean([after for before, after in pairs if not before]))
        say("  c2i, of the right ones", mean([not after for before, after in pairs if before]))
        flows = {f"{a}2{b}": sum((x, y) == (a == "c", b == "c") for x, y in pairs) for a in "ci" for b in "ci"}
        said.append("  of all: " + ", ".join(f"{flow} {100 * n / len(rows):.1f}" for flow, n in flows.items()))
    return said


def _alone(rows: Sequence[Row]) -> list[str]:
    """The critiques of first drafts by themselves."""
    said = ["the critic by itself, on the first drafts"]
    say = _sayer(said)
    first = [(row["solutions"][0]["right"], row["critiques"][0], row["solutions"][1]["right"]) for row in rows]
    passed = [found["verdict"] == "correct" for right, found, _ in first if right]
    caught = [found["verdict"] == "incorrect" for right, found, _ in first if not right]
    say("verdict is the truth (discriminability)", mean([(c["verdict"] == "correct") == right for right, c, _ in first]))
    if passed and caught:
        say("  balanced over right and wrong", balanced(passed, caught))
    say("  right ones passed", mean(passed))
    say("  wrong ones caught", mean(caught))
    helped = [after for right, found, after in first if not right and found["verdict"] == "incorrect"]
    say("refinement right where wrong and caught (helpfulness)", mean(helped))
    known = [(found["p_correct"], right) for right, found, _ in first if found["p_correct"] is not None]
    if known:
        said.append(f"  {'calibration error of p_correct':<56}{calibration_error(*zip(*known, strict=True)):.3f}")
    wrong = [c for _, c, _ in first if c["located"] and c["true_first_error"] is not None]
    if wrong:
        say("first error located", mean([c["first_error"] == c["true_first_error"] for c in wrong]))
    say("unparsable critiques", mean([found["unparsable"] for _, found, _ in first]))
    return said


def _sayer(said: list[str]) -> Callable[[str, object], None]:
    return lambda name, value: said.append(f"  {name:<56}{value}")
