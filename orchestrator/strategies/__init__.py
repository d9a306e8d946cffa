"""The strategies by name, and how a request's `strategy` becomes one of them.

A strategy is added by writing its file and naming it in `STRATEGIES`.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter
from pydantic_core import PydanticCustomError

from orchestrator.strategies.auto import Auto
from orchestrator.strategies.base import Strategy
from orchestrator.strategies.best_of_n import BestOfN
from orchestrator.strategies.iterative_deepening import IterativeDeepening
from orchestrator.strategies.refine import Refine
from orchestrator.strategies.single import Single
from orchestrator.strategies.step_beam import StepBeam

STRATEGIES: tuple[type[Strategy], ...] = (Auto, Single, Refine, BestOfN, StepBeam, IterativeDeepening)

MAX_NESTING = 3
"""Strategies inside each other."""
MAX_BREADTH = 256
"""Drafts side by side, over all nested strategies."""


def _from_name(value: object) -> object:
    """A bare name is the strategy with its defaults. Refuses what is nested too deeply before anything recurses."""
    depth, inner = 1, value
    while isinstance(inner, Mapping) and "inner" in inner:
        inner = inner["inner"]  # pyright: ignore[reportUnknownVariableType] - any JSON
        depth += 1
        if depth > MAX_NESTING:
            raise PydanticCustomError(
                "strategy_nesting", "strategies may be nested {limit} deep at most", {"limit": MAX_NESTING}
            )
    return {"name": value} if isinstance(value, str) else value


def _not_too_broad(strategy: Strategy) -> Strategy:
    if strategy.breadth > MAX_BREADTH:
        raise PydanticCustomError(
            "strategy_breadth",
            "this strategy drafts {breadth} candidates side by side, at most {limit} are allowed",
            {"breadth": strategy.breadth, "limit": MAX_BREADTH},
        )
    return strategy


AnyStrategy = Annotated[
    Annotated[Auto | Single | Refine | BestOfN | StepBeam | IterativeDeepening, Field(discriminator="name")],
    BeforeValidator(_from_name),
    AfterValidator(_not_too_broad),
]

BestOfN.model_rebuild(_types_namespace={"AnyStrategy": AnyStrategy})

_ADAPTER: TypeAdapter[Strategy] = TypeAdapter(AnyStrategy)


def parse(value: object) -> Strategy:
    """The strategy that a name or an object describes. Raises `pydantic.ValidationError`."""
    return _ADAPTER.validate_python(value)


def described() -> list[dict[str, Any]]:
    """Every strategy: name, what it does, and the JSON schema of its parameters."""
    return [
        {
            "name": kind.model_fields["name"].default,
            "description": (kind.__doc__ or "").strip(),
            "schema": kind.model_json_schema(),
        }
        for kind in STRATEGIES
    ]
