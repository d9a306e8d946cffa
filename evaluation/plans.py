"""Plans from the command line: every strategy under every budget."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from evaluation.problem_sets import first_mistake
from evaluation.rows import SolveRow
from evaluation.runs import SolvePlan
from orchestrator.strategies import parse

UNLIMITED: dict[str, float] = {"max_tokens": 1_000_000, "max_calls": 10_000, "max_seconds": 3_600}
"""Limits above the cost of any solve, so that the strategy alone decides what it spends."""

GREEDY = SolvePlan("greedy", {"name": "single"}, {"temperature": 0.0}, dict(UNLIMITED))
"""One draft at temperature 0: the unit of budgets that are multiples."""

_BUDGET = re.compile(r"(\d+(?:\.\d+)?)(x?)")


class BadPlan(Exception):
    """A strategy or a budget of the command line is invalid; the message says which."""


def plan(strategy: str, temperature: float, max_tokens: int) -> SolvePlan:
    """Return a plan without limits for a strategy, given by name or as JSON. Raises `BadPlan`.

    The plan is named after the strategy and its parameters.
    """
    try:
        body: dict[str, Any] = json.loads(strategy) if strategy.lstrip().startswith("{") else {"name": strategy}
        parse(body)
    except json.JSONDecodeError as error:
        raise BadPlan(f"strategy {strategy}: not JSON: {error}") from error
    except ValidationError as error:
        raise BadPlan(f"strategy {strategy}: {first_mistake(error, 'name')}") from error
    return SolvePlan(_name(body), body, {"temperature": temperature, "max_tokens": max_tokens}, dict(UNLIMITED))


def pocket_plan(name: str, temperature: float, strategy: str, **parameters: object) -> SolvePlan:
    """Return a plan without limits for problems of the pocket domain, whose solutions are short."""
    sampling = {"temperature": temperature, "max_tokens": 256}
    return SolvePlan(name, {"name": strategy, **parameters}, sampling, dict(UNLIMITED))


def is_multiple(budget: str) -> bool:
    """Return whether a budget is a multiple of a greedy draft's tokens, like `6x`. Raises `BadPlan` if it is no budget."""
    return _parts(budget)[1] == "x"


def limited(plans: Sequence[SolvePlan], budgets: Sequence[str], greedy: Sequence[SolveRow]) -> list[SolvePlan]:
    """Return every plan under every budget, or the plans as they are if there is none. Raises `BadPlan`.

    `1x` is the tokens of a problem's row in `greedy`, the rows of `GREEDY`.
    """
    drafts = {row.id: row.tokens for row in greedy}
    return [_limited(plan, budget, drafts) for plan in plans for budget in budgets] or list(plans)


def _limited(plan: SolvePlan, budget: str, drafts: Mapping[str, int]) -> SolvePlan:
    amount, unit = _parts(budget)
    name = f"{plan.name}@{budget}"
    if unit:
        return replace(plan, name=name, times=float(amount), drafts=drafts)
    return replace(plan, name=name, budget={**plan.budget, "max_tokens": round(float(amount))})


def _parts(budget: str) -> tuple[str, str]:
    match = _BUDGET.fullmatch(budget)
    if match is None or not float(match[1]):
        raise BadPlan(f"budget {budget}: give a number of tokens, like 2000, or a multiple of a greedy draft, like 6x")
    return match[1], match[2]


def _name(strategy: dict[str, Any]) -> str:
    """Return the strategy and its parameters in characters that a file name may have."""
    parts = [str(strategy["name"]), *(f"{key}={_short(value)}" for key, value in strategy.items() if key != "name")]
    return re.sub(r"[^\w=.,@+-]+", "_", ",".join(parts))


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", "="))
