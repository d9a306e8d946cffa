"""The budget of one solve: grants leases, lets calls wait for each other, and keeps the account.

A call that does not fit waits while other calls run, since their leases may settle below what they hold; when none runs
it gets what is left. Waiting calls are served in the order of their places, so that a budget binds reproducibly. A draft
is granted together with a reservation for judging each of its samples, so that it does not eat its own
verdict's tokens, unless the verdict would leave it less than half of its length.
"""

import bisect
from collections.abc import Mapping
from dataclasses import dataclass

import anyio

from orchestrator.budget.fitting import Fit, Want, exhausted, shrunk, whole
from orchestrator.budget.tree import Charge, Lease, LimitReached, Node, Price
from services.contracts.solve import ROLES, Budget, BudgetSpent, Role, RoleSpent, Spent

Place = tuple[int, ...]
"""Where a call stands in its strategy, as numbers that sort."""

Ticket = tuple[Place, int, anyio.Event]
"""A call that waits: its place, the order of its arrival, and what wakes it."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease for a call, and the reservations for judging each of its samples (empty where none could be made)."""

    lease: Lease
    reserved: tuple[Lease, ...] = ()


class Ledger:
    """Every lease of one solve hangs here."""

    def __init__(self, limits: Budget, prices: Mapping[Role, Price] | None = None) -> None:
        """Build the tree: the whole, and a node a role below it."""
        self.limits = limits
        self.total = Node("total", limits)
        self.roles: dict[Role, Node] = {
            role: Node(role, getattr(limits, role), (prices or {}).get(role, Price()), self.total) for role in ROLES
        }
        self.running: set[Lease] = set()
        self.reserved: set[Lease] = set()
        self._waiting: list[Ticket] = []
        self._arrivals = 0

    async def lease(self, role: Role, want: Want, place: Place = (), reserved: Lease | None = None) -> Grant:
        """Set aside what a call wants, or what is left once no other call runs.

        `reserved` is the call's own reservation, given back as the call takes its lease. Raises `LimitReached` when what
        is left is no call, or cannot hold `want.judge` beside a `strict` one.
        """
        ahead = reserved is not None
        if reserved is not None:
            reserved.release()
        while True:
            if ahead or not self._waiting or self._waiting[0][0] >= place:
                ahead = False
                fit = self._fit(role, want)
                if fit is not None:
                    return self._grant(role, fit)
                if not self.running:
                    self._wake()
                    raise exhausted(self.roles, role, want)
            await self._wait(place)

    def _fit(self, role: Role, want: Want) -> Fit | None:
        fit = whole(self.roles, role, want)
        if fit is None and not self.running:
            fit = shrunk(self.roles, role, want)
        return fit

    def _grant(self, role: Role, fit: Fit) -> Grant:
        lease = Lease(self.roles[role], fit.call, self._closed, fit.n)
        self.running.add(lease)
        reserved = [Lease(self.roles["critic"], fit.judge, self._closed) for _ in range(fit.n)] if fit.judge else []
        self.reserved.update(reserved)
        self._wake()
        return Grant(lease, tuple(reserved))

    async def _wait(self, place: Place) -> None:
        self._arrivals += 1
        ticket = (place, self._arrivals, anyio.Event())
        bisect.insort(self._waiting, ticket, key=lambda entry: entry[:2])
        try:
            await ticket[2].wait()
        except anyio.get_cancelled_exc_class():
            self._waiting.remove(ticket)
            self._wake()  # the turn may just have been given to the one that is leaving
            raise
        self._waiting.remove(ticket)

    def _wake(self) -> None:
        """Let the first in line look again; it keeps its place until it does."""
        if self._waiting:
            self._waiting[0][2].set()

    def _closed(self, lease: Lease) -> None:
        self.running.discard(lease)
        self.reserved.discard(lease)
        self._wake()

    def require(self, *, actor: Charge, critic: Charge) -> None:
        """Raise `LimitReached` unless both amounts fit together under what is left."""
        for node, charge in (
            (self.roles["actor"], actor),
            (self.roles["critic"], critic),
            (self.total, actor + critic),
        ):
            limit = node.lacking(charge)
            if limit is not None:
                raise node.limit_reached(limit, charge.by_limit()[limit])

    @property
    def open_leases(self) -> int:
        """Leases and reservations not yet settled."""
        return len(self.running) + len(self.reserved)

    def limit_of(self, role: Role, needed: int) -> LimitReached:
        """The error for a call that the role service refused since its prompt and one token are `needed` tokens."""
        tightest = min(self.roles[role].lineage(), key=lambda node: node.left("max_tokens"))
        return tightest.limit_reached("max_tokens", needed)

    def spent(self, seconds: float) -> BudgetSpent:
        """Settled charges so far."""
        total, actor, critic = (_spent(node) for node in (self.total, self.roles["actor"], self.roles["critic"]))
        return BudgetSpent(**total.model_dump(), seconds=seconds, actor=actor, critic=critic)

    @property
    def tokens(self) -> Spent:
        """Settled tokens so far, by role."""
        actor, critic = (self.roles[role].spent.tokens for role in ("actor", "critic"))
        return Spent(actor=actor, critic=critic, total_tokens=self.total.spent.tokens)

    def shares(self) -> dict[str, float]:
        """The settled share of every limit that is set, in [0, 1]."""
        shares: dict[str, float] = {}
        for node in (self.total, *self.roles.values()):
            for limit, amount in node.spent.by_limit().items():
                bound: float | None = getattr(node.limits, limit)
                if bound is not None:
                    shares[node.label(limit)] = min(1.0, amount / bound)
        return shares


def _spent(node: Node) -> RoleSpent:
    spent = node.spent
    return RoleSpent(tokens=spent.tokens, completion_tokens=spent.completion_tokens, calls=spent.calls, cost=spent.cost)
