"""Plans out of what a command line says: every strategy under every budget."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from evaluation.runs import Plan, Row
from orchestrator.strategies import parse

ROOMY: dict[str, float] = {"max_tokens": 1_000_000, "max_calls": 10_000, "max_seconds": 3_600}
"""No limit that a solve would meet: what it costs is then the strategy's own choice."""

GREEDY = Plan("greedy", {"name": "single"}, {"temperature": 0.0}, dict(ROOMY))
"""The measure of budgets that are multiples: one draft of the same problem, at temperature 0."""

_BUDGET = re.compile(r"(\d+(?:\.\d+)?)(x?)")


class BadPlan(Exception):
    """A strategy or a budget of the command line means nothing; the message says which."""


def plan(strategy: str, temperature: float, max_tokens: int) -> Plan:
    """A strategy by name or as JSON, without a limit. Its name is the strategy's and what it sets."""
    try:
        asked: dict[str, Any] = json.loads(strategy) if strategy.lstrip().startswith("{") else {"name": strategy}
        parse(asked)
    except json.JSONDecodeError as error:
        raise BadPlan(f"strategy {strategy}: not JSON: {error}") from error
    except ValidationError as error:
        found = error.errors()[0]
        raise BadPlan(f"strategy {strategy}: {'.'.join(map(str, found['loc']))}: {found['msg']}") from error
    return Plan(_name(asked), asked, {"temperature": temperature, "max_tokens": max_tokens}, dict(ROOMY))


def multiple(budget: str) -> bool:
    """Whether a budget is one of the greedy draft's tokens, as `6x`. Raises `BadPlan` for what is no budget."""
    return _parts(budget)[1] == "x"


def limited(plans: Sequence[Plan], budgets: Sequence[str], greedy: Sequence[Row]) -> list[Plan]:
    """Every plan under every budget, or without one where there is none; rows of `GREEDY` tell what `1x` of a problem is."""
    drafts = {row["id"]: row["tokens"] for row in greedy}
    return [_limited(plan, budget, drafts) for plan in plans for budget in budgets] or list(plans)


def _limited(plan: Plan, budget: str, drafts: Mapping[str, int]) -> Plan:
    amount, unit = _parts(budget)
    name = f"{plan.name}@{budget}"
    if unit:
        return replace(plan, name=name, times=float(amount), drafts=drafts)
    return replace(plan, name=name, budget={**plan.budget, "max_tokens": round(float(amount))})


def _parts(budget: str) -> tuple[str, str]:
    found = _BUDGET.fullmatch(budget)
    if found is None or not float(found[1]):
        raise BadPlan(f"budget {budget}: give tokens, as 2000, or multiples of a greedy draft, as 6x")
    return found[1], found[2]


def _name(asked: dict[str, Any]) -> str:
    """The strategy and its parameters, as a file may be called."""
    parts = [str(asked["name"]), *(f"{key}={_short(value)}" for key, value in asked.items() if key != "name")]
    return re.sub(r"[^\w=.,@+-]+", "_", ",".join(parts))


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", "="))
