"""Runs: every problem of a set under every plan, through `POST /solve`, one JSON line per solve.

A run that is started again resumes: problems whose row is in the file are not solved again. A failed solve is a row too,
with its problem object; it counts as wrong, and the next run tries it again. `run.json` records the seed and the plans; a
run whose seed, or whose plan of the same name, differs from it is refused.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import httpx

from evaluation.problem_sets import ProblemItem, grade
from evaluation.rows import CandidateRow, SolveRow
from orchestrator.answers import AnswerEquivalence
from services.contracts.errors import ProblemDetails
from services.contracts.solve import SolveResult
from services.jsonl import CONCURRENCY, read, resume

MANIFEST = "run.json"

OnProgress = Callable[[str, int, int], None]
"""A callback for the name of a file of rows, the number of its rows, and the number that it will have."""


@dataclass(frozen=True, slots=True)
class SolvePlan:
    """A strategy with its sampling and budget: the body of `POST /solve`, except for the problem and the seed.

    With `times`, the token limit is that multiple of the tokens of the problem's own greedy draft, which `drafts` holds by
    problem id.
    """

    name: str
    strategy: dict[str, Any]
    sampling: dict[str, Any] = field(default_factory=dict[str, Any])
    budget: dict[str, Any] = field(default_factory=dict[str, Any])
    times: float | None = None
    drafts: Mapping[str, int] = field(default_factory=dict[str, int], compare=False)

    def body(self, item: ProblemItem, seed: int) -> dict[str, Any]:
        """Return the request for a problem; its seed depends on the run's seed and the problem, not on the plan."""
        limit = {} if self.times is None else {"max_tokens": round(self.times * self.drafts[item.id])}
        return {
            "problem": item.problem,
            "strategy": self.strategy,
            "sampling": {**self.sampling, "seed": seed_of(item, seed)},
            "budget": self.budget | limit,
            "trace": "full",
        }


def seed_of(item: ProblemItem, seed: int) -> int:
    """Return the seed of a problem in a run of `seed`."""
    return int.from_bytes(blake2b(f"{seed} {item.id}".encode(), digest_size=3).digest())


class BadRun(Exception):
    """A folder holds no run, or a different one; the message says which."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of a run's folder: its seed, its plans by name, and the group of each problem by id."""

    seed: int
    plans: dict[str, SolvePlan]
    groups: dict[str, str]

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read a folder's manifest. Raises `BadRun` if there is none."""
        try:
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        except FileNotFoundError as error:
            raise BadRun(f"{folder} holds no run: there is no {MANIFEST}") from error
        plans = {name: SolvePlan(name, **body) for name, body in manifest["plans"].items()}
        return cls(manifest["seed"], plans, manifest["groups"])

    def save(self, folder: Path) -> None:
        """Write the manifest into a folder, which is created if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        fields = ("strategy", "sampling", "budget", "times")
        plans = {name: {field: getattr(plan, field) for field in fields} for name, plan in self.plans.items()}
        text = json.dumps({"seed": self.seed, "plans": plans, "groups": self.groups}, indent=1)
        (folder / MANIFEST).write_text(f"{text}\n", "utf-8")

    def extended(self, plans: Sequence[SolvePlan], items: Sequence[ProblemItem], seed: int) -> "Manifest":
        """Return this manifest with more plans and problems.

        Raises `BadRun` if the seed, or a plan of the same name, differs.
        """
        if seed != self.seed:
            raise BadRun(f"this folder's seed is {self.seed}, not {seed}: choose another folder")
        for plan in plans:
            if self.plans.get(plan.name, plan) != plan:
                raise BadRun(f"plan {plan.name} differs from the plan of that name in this folder: choose another folder")
        groups = {item.id: item.group for item in items}
        return Manifest(seed, self.plans | {plan.name: plan for plan in plans}, self.groups | groups)


def rows_in(folder: Path) -> tuple[Manifest, dict[str, list[SolveRow]]]:
    """Read a run: the rows of each plan, in order, on the problems that all of its plans have. Raises `BadRun` if none."""
    manifest = Manifest.load(folder)
    by_plan = {name: {row.id: row for row in read(folder / f"{name}.jsonl", SolveRow)} for name in manifest.plans}
    shared = [problem for problem in manifest.groups if all(problem in rows for rows in by_plan.values())]
    if not shared:
        raise BadRun(f"{folder}: no problem has a row under every plan; let the run finish")
    return manifest, {name: [rows[problem] for problem in shared] for name, rows in by_plan.items()}


async def run(
    client: httpx.AsyncClient,
    plans: Sequence[SolvePlan],
    items: Sequence[ProblemItem],
    out: Path,
    seed: int,
    on_progress: OnProgress,
    concurrency: int = CONCURRENCY,
) -> dict[str, list[SolveRow]]:
    """Solve the problems that have no row in `out`; return the rows of each plan in the order of the problems.

    Raises `BadRun` if `out` holds a different run.
    """
    manifest = Manifest.load(out) if (out / MANIFEST).exists() else Manifest(seed, {}, {})
    manifest.extended(plans, items, seed).save(out)
    answers = AnswerEquivalence()
    rows: dict[str, list[SolveRow]] = {}
    async with answers.running():
        for plan in plans:
            path, solve = out / f"{plan.name}.jsonl", partial(_solve, client, answers, plan, seed)
            rows[plan.name] = await resume(path, SolveRow, items, solve, partial(on_progress, plan.name), concurrency)
    return rows


async def _solve(
    client: httpx.AsyncClient, answers: AnswerEquivalence, plan: SolvePlan, seed: int, item: ProblemItem
) -> SolveRow:
    response = await client.post("/solve", json=plan.body(item, seed))
    if response.is_error:
        problem = ProblemDetails.model_validate_json(response.content)
        return SolveRow(id=item.id, level=item.level, right=False, tokens=0, candidates=(), failed=problem)
    result = SolveResult.model_validate_json(response.content)
    traces = result.candidates or ()
    right = {answer: await grade(answers, answer, item) for answer in {result.answer, *(trace.answer for trace in traces)}}
    fields = {
        "id": item.id,
        "level": item.level,
        "right": right[result.answer],
        "tokens": result.usage.total_tokens,
        "completion_tokens": result.usage.completion_tokens,
        "candidates": [CandidateRow.of(trace, right=right[trace.answer]) for trace in traces],
    }
    return SolveRow.model_validate({**result.model_dump(), **fields})
