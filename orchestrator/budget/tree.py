"""The tree of limits and the leases that hang on it.

The tree has three nodes: the whole solve, and below it one node a role. A lease holds an amount on its node and on
every node above until it is settled; what is spent plus what is held never exceeds a limit.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from services.contracts.solve import RoleBudget
from services.contracts.usage import Allowance, Usage


class LimitReached(Exception):
    """A limit of the budget does not allow the next call; `needed` is the limit that would have, where it is known."""

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
        """Cost of a usage."""
        return usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion

    def at_most(self, tokens: int, completion: int) -> float:
        """Highest cost of a call of `tokens` in all of which at most `completion` are generated."""
        extra = max(0.0, self.completion - self.prompt)
        return tokens * self.prompt + min(tokens, completion) * extra


@dataclass(frozen=True, slots=True)
class Charge:
    """An amount of everything that is limited."""

    tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    cost: float = 0.0

    def __add__(self, other: "Charge") -> "Charge":
        return Charge(
            self.tokens + other.tokens,
            self.completion_tokens + other.completion_tokens,
            self.calls + other.calls,
            self.cost + other.cost,
        )

    def __sub__(self, other: "Charge") -> "Charge":
        return self + Charge(-other.tokens, -other.completion_tokens, -other.calls, -other.cost)

    def times(self, n: int) -> "Charge":
        """This amount `n` times."""
        return Charge(self.tokens * n, self.completion_tokens * n, self.calls * n, self.cost * n)

    def by_limit(self) -> dict[str, float]:
        """The amounts under the names of the limits that bound them."""
        return {
            "max_tokens": self.tokens,
            "max_completion_tokens": self.completion_tokens,
            "max_calls": self.calls,
            "max_cost": self.cost,
        }


@dataclass(slots=True)
class Node:
    """Limits on a part of the solve, and what is spent and held below it."""

    name: str
    limits: RoleBudget
    price: Price = Price()
    parent: "Node | None" = None
    spent: Charge = Charge()
    held: Charge = Charge()

    def lineage(self) -> Iterator["Node"]:
        """This node and its ancestors."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def left(self, limit: str) -> float:
        """What may still be leased under a limit; infinite where it is not set."""
        bound: float | None = getattr(self.limits, limit)
        return math.inf if bound is None else bound - (self.spent + self.held).by_limit()[limit]

    def lacking(self, charge: Charge) -> str | None:
        """The limit that `charge` does not fit under, if any."""
        return next((name for name, amount in charge.by_limit().items() if amount > self.left(name)), None)

    def limit_reached(self, limit: str, needed: float | None = None) -> LimitReached:
        """The error for one of this node's limits; `needed` counts what is already spent here."""
        total = None if needed is None else needed + self.spent.by_limit()[limit]
        return LimitReached(self.label(limit), getattr(self.limits, limit), total)

    def label(self, limit: str) -> str:
        """The limit's name in the request: `max_tokens`, `actor.max_tokens`."""
        return limit if self.parent is None else f"{self.name}.{limit}"


@dataclass(slots=True, eq=False)
class Lease:
    """Part of the budget set aside for one call, or reserved for one that will follow.

    As a context manager it is charged whole if nothing settled it before.
    """

    node: Node
    charge: Charge
    closed: "Callable[[Lease], None]"
    n: int = 1
    open: bool = True

    def __post_init__(self) -> None:
        """Hold the charge on the node and above."""
        for node in self.node.lineage():
            node.held += self.charge

    @property
    def allowance(self) -> Allowance:
        """What the role service may spend."""
        return Allowance(max_tokens=self.charge.tokens, max_completion_tokens=self.charge.completion_tokens)

    def settle(self, usage: Usage) -> None:
        """Charge what was used. A second settlement changes nothing."""
        self._close(Charge(usage.total_tokens, usage.completion_tokens, 1, self.node.price.of(usage)))

    def release(self) -> None:
        """Give everything back: the call was not made, or refused before it spent anything."""
        self._close(Charge())

    def forfeit(self) -> None:
        """Charge the whole lease: the call was made and its usage never arrived."""
        self._close(self.charge)

    def _close(self, actual: Charge) -> None:
        if not self.open:
            return
        self.open = False
        for node in self.node.lineage():
            node.held -= self.charge
            node.spent += actual
        self.closed(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.forfeit()
