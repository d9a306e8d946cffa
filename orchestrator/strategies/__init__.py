"""The strategies, and the parsing of a request's `strategy` into one of them.

To add a strategy, write its file and add its class to `_ByName`, the only list of strategies.
"""

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter
from pydantic_core import PydanticCustomError

from orchestrator.strategies.auto import Auto
from orchestrator.strategies.base import Strategy
from orchestrator.strategies.best_of_n import BestOfN
from orchestrator.strategies.iterative_deepening import IterativeDeepening
from orchestrator.strategies.refine import Refine
from orchestrator.strategies.single import Single
from orchestrator.strategies.step_beam import StepBeam

_ByName = Auto | Single | Refine | BestOfN | StepBeam | IterativeDeepening

STRATEGIES: tuple[type[Strategy], ...] = get_args(_ByName)
NAMES = tuple(str(kind.model_fields["name"].default) for kind in STRATEGIES)

MAX_NESTING = 3
"""The most strategies inside each other."""
MAX_BREADTH = 256
"""The most drafts side by side, over all nested strategies."""


def _from_name(value: object) -> object:
    """Expand a bare name to a strategy with its defaults. Refuse deep nesting before anything recurses."""
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
    Annotated[_ByName, Field(discriminator="name")],
    BeforeValidator(_from_name),
    AfterValidator(_not_too_broad),
]

BestOfN.model_rebuild(_types_namespace={"AnyStrategy": AnyStrategy})

_ADAPTER: TypeAdapter[Strategy] = TypeAdapter(AnyStrategy)


def parse(value: object) -> Strategy:
    """Return the strategy that a name or an object describes. Raises `pydantic.ValidationError`."""
    return _ADAPTER.validate_python(value)


def described() -> list[dict[str, Any]]:
    """Return the name, the description and the JSON schema of the parameters of every strategy."""
    return [
        {
            "name": name,
            "description": (kind.__doc__ or "").strip(),
            "schema": kind.model_json_schema(),
        }
        for name, kind in zip(NAMES, STRATEGIES, strict=True)
    ]
