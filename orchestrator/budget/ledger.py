"""The ledger of one solve: it grants leases, lets calls wait for each other, and keeps the account.

A call that does not fit waits while other calls run, since their leases may settle below what they hold. When none runs,
it gets what is left. Waiting calls are served in the order of their places, so that a budget binds reproducibly. A draft
is granted together with a reservation for judging each of its samples, so that it cannot spend the tokens of its own
verdict, unless the reservation would leave the draft less than half of its length.
"""

import bisect
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import anyio

from orchestrator.budget.limits import BudgetNode, Charge, Lease, LimitReached, Price
from orchestrator.budget.sizing import CallSize, SizedCall, full_size, limit_error, reduced_size
from services.contracts.solve import ROLES, Budget, BudgetSpent, Role, RoleSpent, Spent

Place = tuple[int, ...]
"""The position of a call in its strategy, as numbers that sort."""

Ticket = tuple[Place, int, anyio.Event]
"""A waiting call: its place, the number of its arrival, and the event that wakes it."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease for a call, and the reservations for judging each of its samples (empty where none could be made)."""

    lease: Lease
    reserved: tuple[Lease, ...] = ()


class Ledger:
    """All leases of one solve."""

    def __init__(self, limits: Budget, prices: Mapping[Role, Price] | None = None) -> None:
        """Build the tree: the whole solve, and one node per role below it."""
        self.limits = limits
        self.total = BudgetNode("total", limits)
        self.roles: dict[Role, BudgetNode] = {
            role: BudgetNode(role, getattr(limits, role), (prices or {}).get(role, Price()), self.total) for role in ROLES
        }
        self.running: set[Lease] = set()
        self.reserved: set[Lease] = set()
        self._waiting: list[Ticket] = []
        self._arrivals = 0

    async def lease(self, role: Role, size: CallSize, place: Place = (), reserved: Lease | None = None) -> Grant:
        """Lease a call at its full size, or at the largest size that is left once no other call runs.

        `reserved` is the call's own reservation, which is returned as the call takes its lease. Raises `LimitReached` if
        what is left allows no call, or cannot hold a required judgement beside it.
        """
        first = reserved is not None
        if reserved is not None:
            reserved.release()
        while True:
            if first or not self._waiting or self._waiting[0][0] >= place:
                first = False
                sized = self._sized(role, size)
                if sized is not None:
                    return self._grant(role, sized)
                if not self.running:
                    self._wake()
                    raise limit_error(self.roles, role, size)
            await self._wait(place)

    def _sized(self, role: Role, size: CallSize) -> SizedCall | None:
        sized = full_size(self.roles, role, size)
        if sized is None and not self.running:
            sized = reduced_size(self.roles, role, size)
        return sized

    def _grant(self, role: Role, sized: SizedCall) -> Grant:
        lease = Lease(self.roles[role], sized.call, self._closed, sized.n)
        self.running.add(lease)
        judgement, critic = sized.judgement, self.roles["critic"]
        reserved = [Lease(critic, judgement, self._closed) for _ in range(sized.n)] if judgement else []
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
            self._wake()  # this call may just have been woken; wake the next one instead
            raise
        self._waiting.remove(ticket)

    def _wake(self) -> None:
        """Wake the first waiting call, which keeps its place until it runs."""
        if self._waiting:
            self._waiting[0][2].set()

    def _closed(self, lease: Lease) -> None:
        self.running.discard(lease)
        self.reserved.discard(lease)
        self._wake()

    def require(self, *, actor: Charge, critic: Charge) -> None:
        """Raise `LimitReached` unless both amounts together fit under what is left."""
        for node, charge in (
            (self.roles["actor"], actor),
            (self.roles["critic"], critic),
            (self.total, actor + critic),
        ):
            limit = node.exceeded_by(charge)
            if limit is not None:
                raise node.limit_reached(limit, charge.under(limit))

    @property
    def open_leases(self) -> int:
        """Number of leases and reservations that are not yet settled."""
        return len(self.running) + len(self.reserved)

    def limit_of(self, role: Role, needed: int) -> LimitReached:
        """Return the error for a call that the role service refused because it needs `needed` tokens."""
        tightest = min(self.roles[role].lineage(), key=lambda node: node.left("max_tokens"))
        return tightest.limit_reached("max_tokens", needed)

    def spent(self, seconds: float) -> BudgetSpent:
        """Return the settled charges so far, of a solve that has run for `seconds`."""
        total, actor, critic = (asdict(node.spent) for node in (self.total, self.roles["actor"], self.roles["critic"]))
        return BudgetSpent(**total, seconds=seconds, actor=RoleSpent(**actor), critic=RoleSpent(**critic))

    @property
    def tokens(self) -> Spent:
        """Settled tokens so far, by role."""
        actor, critic = (self.roles[role].spent.tokens for role in ("actor", "critic"))
        return Spent(actor=actor, critic=critic, total_tokens=self.total.spent.tokens)

    def shares(self) -> dict[str, float]:
        """Return the settled share of every limit that is set, in [0, 1], by the limit's name in the request."""
        shares: dict[str, float] = {}
        for node in (self.total, *self.roles.values()):
            for limit, amount in node.spent.by_limit().items():
                bound: float | None = getattr(node.limits, limit)
                if bound is not None:
                    shares[node.label(limit)] = min(1.0, amount / bound)
        return shares
