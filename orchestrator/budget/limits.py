"""The tree of limits and the leases under them.

The tree has three nodes: the whole solve, and one node per role below it. A lease holds an amount on its node and on every
node above until it is settled. The sum of what is spent and what is held never exceeds a limit.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from operator import add, attrgetter, sub
from types import TracebackType
from typing import Self

from services.contracts.solve import RoleBudget
from services.contracts.usage import Allowance, Usage


class LimitReached(Exception):
    """A limit of the budget does not allow the next call; `needed` is the limit that would, where it is known."""

    def __init__(self, limit: str, value: float, needed: float | None = None) -> None:
        super().__init__(f"{limit} is exhausted")
        self.limit = limit
        self.value = value
        self.needed = needed


@dataclass(frozen=True, slots=True)
class Price:
    """Cost of one token of a role, in the unit of `max_cost`."""

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, usage: Usage) -> float:
        """Return the cost of a usage."""
        return usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion

    def at_most(self, tokens: int, completion: int) -> float:
        """Return the highest cost of a call of `tokens` in total, at most `completion` of them generated."""
        extra = max(0.0, self.completion - self.prompt)
        return tokens * self.prompt + min(tokens, completion) * extra


@dataclass(frozen=True, slots=True)
class Charge:
    """An amount of everything that can be limited: the field `x` counts towards the limit `max_x`."""

    tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    cost: float = 0.0

    def __add__(self, other: "Charge") -> "Charge":
        return Charge(*map(add, _amounts(self), _amounts(other)))

    def __sub__(self, other: "Charge") -> "Charge":
        return Charge(*map(sub, _amounts(self), _amounts(other)))

    def times(self, n: int) -> "Charge":
        """Return this amount multiplied by `n`."""
        return Charge(*(amount * n for amount in _amounts(self)))

    def by_limit(self) -> dict[str, float]:
        """Return the amounts by the names of the limits that they count towards."""
        return dict(zip(LIMITS, _amounts(self), strict=True))

    def under(self, limit: str) -> float:
        """Return the amount that counts towards a limit."""
        return getattr(self, limit.removeprefix("max_"))


_NAMES = tuple(field.name for field in fields(Charge))
_amounts = attrgetter(*_NAMES)

LIMITS = tuple(f"max_{name}" for name in _NAMES)
"""Names of the limits that charges count towards."""


@dataclass(slots=True)
class BudgetNode:
    """Limits on a part of the solve, with what is spent and held below it."""

    name: str
    limits: RoleBudget
    price: Price = Price()
    parent: "BudgetNode | None" = None
    spent: Charge = Charge()
    held: Charge = Charge()

    def lineage(self) -> Iterator["BudgetNode"]:
        """Yield this node, then its ancestors."""
        node: BudgetNode | None = self
        while node is not None:
            yield node
            node = node.parent

    def left(self, limit: str) -> float:
        """Return the amount that may still be leased under a limit; infinite where the limit is not set."""
        bound: float | None = getattr(self.limits, limit)
        return math.inf if bound is None else bound - self.spent.under(limit) - self.held.under(limit)

    def exceeded_by(self, charge: Charge) -> str | None:
        """Return the name of the first limit that `charge` does not fit under; None if it fits."""
        return next((limit for limit in LIMITS if charge.under(limit) > self.left(limit)), None)

    def limit_reached(self, limit: str, needed: float | None = None) -> LimitReached:
        """Return the error for one of this node's limits, for a call that needs `needed` more of it."""
        total = None if needed is None else needed + self.spent.under(limit)
        return LimitReached(self.label(limit), getattr(self.limits, limit), total)

    def label(self, limit: str) -> str:
        """Return the limit's name in a request: `max_tokens`, `actor.max_tokens`."""
        return limit if self.parent is None else f"{self.name}.{limit}"


@dataclass(slots=True, eq=False)
class Lease:
    """A part of the budget that is set aside for one call, or reserved for a call that will follow.

    Used as a context manager, it is charged in full on exit unless it was settled before.
    """

    node: BudgetNode
    charge: Charge
    on_close: "Callable[[Lease], None]"
    n: int = 1
    open: bool = True

    def __post_init__(self) -> None:
        """Hold the charge on the node and on its ancestors."""
        for node in self.node.lineage():
            node.held += self.charge

    @property
    def allowance(self) -> Allowance:
        """The most that the role service may spend on the call."""
        return Allowance(max_tokens=self.charge.tokens, max_completion_tokens=self.charge.completion_tokens)

    def settle(self, usage: Usage) -> None:
        """Charge what was used. A second settlement changes nothing."""
        self._close(Charge(usage.total_tokens, usage.completion_tokens, 1, self.node.price.of(usage)))

    def release(self) -> None:
        """Return everything: the call was not made, or was refused before it spent anything."""
        self._close(Charge())

    def forfeit(self) -> None:
        """Charge the lease in full: the call was made and its usage never arrived."""
        self._close(self.charge)

    def _close(self, actual: Charge) -> None:
        if not self.open:
            return
        self.open = False
        for node in self.node.lineage():
            node.held -= self.charge
            node.spent += actual
        self.on_close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.forfeit()
