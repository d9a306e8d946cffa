"""Runs: every problem of a set under every plan, through `POST /solve`, one JSON line a solve.

A run that is started again goes on where it stopped: what stands in the file is not asked for again. A solve that failed is
a row too, with its problem object, counts as wrong, and is asked for again the next time. What was asked stands in
`run.json`; a folder whose plan of the same name asked something else is refused.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import anyio
import httpx

from evaluation.items import Item
from orchestrator.answers import AnswerEquivalence
from orchestrator.answers.text import compare
from services.jsonl import appending, read

CONCURRENCY = 4
"""Solves at a time; a laptop's two engines are busy with these."""

MANIFEST = "run.json"
WARM_SECONDS = 60
"""How long mathematics may take to be ready."""

Row = dict[str, Any]
Progress = Callable[[str, int, int], None]
"""Told a plan's name, how many of its rows are there, and how many there will be."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for each problem: the body of `POST /solve` but for the problem and the seed.

    With `times` its limit of tokens is so many times the problem's own greedy draft, as a vote's price is; `drafts` are the
    tokens of those.
    """

    name: str
    strategy: dict[str, Any]
    sampling: dict[str, Any] = field(default_factory=dict[str, Any])
    budget: dict[str, Any] = field(default_factory=dict[str, Any])
    times: float | None = None
    drafts: Mapping[str, int] = field(default_factory=dict[str, int], compare=False)

    def body(self, item: Item, seed: int) -> dict[str, Any]:
        """The request; its seed depends on the run's seed and the problem, and not on the plan."""
        limit = {} if self.times is None else {"max_tokens": round(self.times * self.drafts[item.id])}
        return {
            "problem": item.problem,
            "strategy": self.strategy,
            "sampling": {**self.sampling, "seed": seed_of(item, seed)},
            "budget": self.budget | limit,
            "trace": "full",
        }


def seed_of(item: Item, seed: int) -> int:
    """The seed of a problem in a run."""
    return int.from_bytes(blake2b(f"{seed} {item.id}".encode(), digest_size=3).digest())


class BadRun(Exception):
    """A folder holds rows of something else, or none; the message says what."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a folder holds: its seed, each plan, and the group of each problem."""

    seed: int
    plans: dict[str, Plan]
    groups: dict[str, str]

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Raises `BadRun` where there is none."""
        try:
            found = json.loads((folder / MANIFEST).read_text("utf-8"))
        except FileNotFoundError as error:
            raise BadRun(f"{folder} holds no run: there is no {MANIFEST}") from error
        plans = {name: Plan(name, **body) for name, body in found["plans"].items()}
        return cls(found["seed"], plans, found["groups"])

    def save(self, folder: Path) -> None:
        """Write it."""
        folder.mkdir(parents=True, exist_ok=True)
        fields = ("strategy", "sampling", "budget", "times")
        plans = {name: {field: getattr(plan, field) for field in fields} for name, plan in self.plans.items()}
        text = json.dumps({"seed": self.seed, "plans": plans, "groups": self.groups}, indent=1)
        (folder / MANIFEST).write_text(f"{text}\n", "utf-8")

    def with_more(self, plans: Sequence[Plan], items: Sequence[Item], seed: int) -> "Manifest":
        """With these plans and problems too. Raises `BadRun` where it held something else under the same name."""
        if seed != self.seed:
            raise BadRun(f"this folder's seed is {self.seed}, not {seed}: choose another folder")
        for plan in plans:
            if self.plans.get(plan.name, plan) != plan:
                raise BadRun(f"plan {plan.name} asked something else in this folder: choose another one")
        groups = {item.id: item.group for item in items}
        return Manifest(seed, self.plans | {plan.name: plan for plan in plans}, self.groups | groups)


def rows_in(folder: Path) -> tuple[Manifest, dict[str, list[Row]]]:
    """Every plan's rows on the problems that all plans have, in their order. Raises `BadRun` where there are none."""
    manifest = Manifest.load(folder)
    found = {name: {row["id"]: row for row in read(folder / f"{name}.jsonl")} for name in manifest.plans}
    shared = [item for item in manifest.groups if all(item in rows for rows in found.values())]
    if not shared:
        raise BadRun(f"{folder}: no problem was asked under every plan; run it to its end")
    return manifest, {name: [rows[item] for item in shared] for name, rows in found.items()}


async def run(
    client: httpx.AsyncClient,
    plans: Sequence[Plan],
    items: Sequence[Item],
    out: Path,
    seed: int,
    progress: Progress,
    concurrency: int = CONCURRENCY,
) -> dict[str, list[Row]]:
    """Solve what is missing; the rows of every plan, in the order of the problems. Raises `BadRun`."""
    known = Manifest.load(out) if (out / MANIFEST).exists() else Manifest(seed, {}, {})
    known.with_more(plans, items, seed).save(out)
    found: dict[str, list[Row]] = {}
    answers = AnswerEquivalence()
    async with answers.running():
        for plan in plans:

            async def solve(item: Item, plan: Plan = plan) -> Row:
                return await _solved(client, answers, item, plan.body(item, seed))

            found[plan.name] = await rows_of(
                out / f"{plan.name}.jsonl", items, solve, lambda n, k, p=plan: progress(p.name, n, k), concurrency
            )
    return found


async def rows_of(
    path: Path,
    items: Sequence[Item],
    make: Callable[[Item], Awaitable[Row]],
    progress: Callable[[int, int], None],
    concurrency: int = CONCURRENCY,
) -> list[Row]:
    """A row for each item, out of the file or made and added to it."""
    rows = {row["id"]: row for row in read(path) if "failed" not in row}
    room = anyio.CapacityLimiter(concurrency)
    path.parent.mkdir(parents=True, exist_ok=True)
    with appending(path) as file:

        async def one(item: Item) -> None:
            async with room:
                row = {"id": item.id, "level": item.level, **await make(item)}
            rows[item.id] = row
            file.write(f"{json.dumps(row)}\n")
            file.flush()
            progress(len(rows), len(items))

        async with anyio.create_task_group() as group:
            for item in items:
                if item.id not in rows:
                    group.start_soon(one, item)
    return [rows[item.id] for item in items]


async def _solved(client: httpx.AsyncClient, answers: AnswerEquivalence, item: Item, body: dict[str, Any]) -> Row:
    response = await client.post("/solve", json=body)
    if response.is_error:
        return {"right": False, "tokens": 0, "candidates": [], "failed": response.json()}
    found = response.json()
    given = {found["answer"], *(candidate["answer"] for candidate in found["candidates"])}
    right = {answer: await graded(answers, answer, item) for answer in given}
    return {
        "right": right[found["answer"]],
        "tokens": found["usage"]["total_tokens"],
        "completion_tokens": found["usage"]["completion_tokens"],
        "answer": found["answer"],
        "solution": found["solution"],
        "stop_reason": found["stop_reason"],
        "confidence": found["confidence"],
        "usage": found["usage"],
        "degraded": found["degraded"],
        "candidates": [
            {key: candidate[key] for key in ("id", "parent", "answer", "p_correct", "verdict", "first_error", "selected")}
            | {"right": right[candidate["answer"]], "text": "\n".join(step["text"] for step in candidate["steps"])}
            for candidate in found["candidates"]
        ],
    }


async def graded(answers: AnswerEquivalence, answer: str | None, item: Item) -> bool:
    """Whether an answer is right: by the set's own test, or by text, number and mathematics."""
    if answer is None:
        return False
    if item.accepts is not None:
        return item.accepts(answer)
    if compare(answer, item.answer) == "unknown":
        with anyio.fail_after(WARM_SECONDS):
            await answers.warm.wait()
    return await answers.equivalent(answer, item.answer) == "same"


def right(answer: str | None, item: Item) -> bool:
    """Whether an answer is the item's, by text and number alone."""
    return answer is not None and compare(answer, item.answer) == "same"
