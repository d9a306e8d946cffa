"""The ledger while calls run side by side: a state machine over a real event loop, and the order of waiting calls."""

from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from budget.drawn import budgets, exceeded, nodes, prices, roles, sizes
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.budget import CallSize, Charge, Grant, Lease, Ledger, LimitReached, Price
from services.contracts.solve import ROLES, Budget, Role, RoleBudget
from services.contracts.usage import Usage

shares = st.floats(0, 1)


def within(lease: Lease, prompt: float, completion: float) -> Usage:
    """Return a usage within a lease: shares of its prompt and of its completion."""
    generated = lease.charge.completion_tokens
    return Usage(
        prompt_tokens=int((lease.charge.tokens - generated) * prompt), completion_tokens=int(generated * completion)
    )


class Ledgers(RuleBasedStateMachine):
    """Calls that request leases, run, end in every possible way, and are cancelled while they wait."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.portal: BlockingPortal = self.stack.enter_context(start_blocking_portal())
        self.waiting: list[Future[Grant]] = []
        self.running: list[tuple[Role, Lease]] = []
        self.reserved: list[Lease] = []
        self.charged = dict.fromkeys(ROLES, Charge())

    def teardown(self) -> None:
        """Cancel the calls that still wait."""
        for future in self.waiting:
            future.cancel()
        self.stack.close()

    @initialize(limits=budgets, actor=prices, critic=prices)
    def begin(self, limits: Budget, actor: Price, critic: Price) -> None:
        """Start a solve."""
        self.ledger = Ledger(limits, {"actor": actor, "critic": critic})

    @rule(role=roles, size=sizes(), place=st.lists(st.integers(0, 3), max_size=2).map(tuple), ahead=st.booleans())
    def request(self, role: Role, size: CallSize, place: tuple[int, ...], ahead: bool) -> None:  # noqa: FBT001 - drawn
        """Request a lease; a critic's call may return its reservation for it."""
        reserved = self.reserved.pop() if ahead and role == "critic" and self.reserved else None

        async def lease() -> tuple[Role, Grant]:
            return role, await self.ledger.lease(role, size, place, reserved)

        self.waiting.append(self.portal.start_task_soon(lease))  # pyright: ignore[reportArgumentType] - see `settle`
        self.settle()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), prompt=shares, completion=shares, end=st.sampled_from(["settle", "forfeit", "release"]))
    def finish(self, data: st.DataObject, prompt: float, completion: float, end: str) -> None:
        """End a running call."""
        role, lease = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        used = within(lease, prompt, completion)
        price = lease.node.price
        if end == "settle":
            self.charged[role] += Charge(used.total_tokens, used.completion_tokens, 1, price.of(used))
            self.portal.call(lease.settle, used)
        elif end == "forfeit":
            self.charged[role] += lease.charge
            self.portal.call(lease.forfeit)
        else:
            self.portal.call(lease.release)
        self.settle()

    @precondition(lambda self: self.reserved)
    @rule()
    def give_back(self) -> None:
        """Release the reservation of a judgement that is not made."""
        self.portal.call(self.reserved.pop().release)
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """Cancel a waiting call."""
        self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1))).cancel()
        self.settle()

    def settle(self) -> None:
        """Wait until no call can proceed, and collect the grants."""
        self.portal.call(anyio.wait_all_tasks_blocked)
        for future in [future for future in self.waiting if future.done()]:
            self.waiting.remove(future)
            if isinstance(future.exception(), LimitReached):
                continue
            answer: Any = future.result()
            role, grant = answer
            self.running.append((role, grant.lease))
            self.reserved.extend(grant.reserved)

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        """No node exceeds a limit with what it has spent and holds."""
        assert [exceeded(node) for node in nodes(self.ledger)] == [[], [], []]

    @invariant()
    def the_whole_is_the_sum_of_its_parts(self) -> None:
        """The amounts of the root are the sums of those of the roles."""
        total, actor, critic = nodes(self.ledger)
        for whole, parts in ((total.spent, actor.spent + critic.spent), (total.held, actor.held + critic.held)):
            assert whole.by_limit() == pytest.approx(parts.by_limit())

    @invariant()
    def every_ended_call_is_charged_what_it_should_be(self) -> None:
        """A settled lease is charged its usage, a forfeited one in full, and a released one nothing."""
        for role in ROLES:
            assert self.ledger.roles[role].spent.by_limit() == pytest.approx(self.charged[role].by_limit())

    @invariant()
    def what_is_held_is_what_is_open(self) -> None:
        """No lease is lost."""
        assert self.ledger.open_leases == len(self.running) + len(self.reserved)
        held = sum((lease.charge for _, lease in self.running), Charge())
        held = sum((lease.charge for lease in self.reserved), held)
        assert self.ledger.total.held.by_limit() == pytest.approx(held.by_limit(), abs=1e-9)

    @invariant()
    def a_call_waits_only_for_running_calls(self) -> None:
        """The last call that ends wakes a waiting one, which gets what is left or an error."""
        assert self.running or not self.waiting


Ledgers.TestCase.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)
TestLedgers = Ledgers.TestCase

ONE = CallSize(max_prompt=60, expected_prompt=60, max_completion=40)
"""A call of 100 tokens."""


async def _take(ledger: Ledger, place: tuple[int, ...], got: list[tuple[int, ...]], keep: list[Lease]) -> None:
    grant = await ledger.lease("actor", ONE, place)
    got.append(place)
    keep.append(grant.lease)


@pytest.mark.anyio
@pytest.mark.parametrize("arrivals", [[(3,), (1,), (2,)], [(2,), (3,), (1,)], [(1, 5), (1, 2), (1,)]], ids=str)
async def test_waiting_calls_are_served_by_place(arrivals: list[tuple[int, ...]]):
    """The order of their arrival does not matter."""
    ledger = Ledger(Budget(max_tokens=400, actor=RoleBudget(max_tokens=400)))
    first = [(await ledger.lease("actor", ONE, (0,))).lease for _ in range(4)]
    got: list[tuple[int, ...]] = []
    keep: list[Lease] = []
    async with anyio.create_task_group() as group:
        for place in arrivals:
            group.start_soon(_take, ledger, place, got, keep)
            await anyio.wait_all_tasks_blocked()
        for lease in first[:3]:
            assert len(got) == first.index(lease)
            lease.release()
            await anyio.wait_all_tasks_blocked()
    assert got == sorted(arrivals)


@pytest.mark.anyio
async def test_a_later_call_does_not_overtake_one_that_was_woken():
    """A call that is requested right after the end of another one waits behind those whose place comes first."""
    ledger = Ledger(Budget(max_tokens=100))
    held = (await ledger.lease("actor", ONE, (3,))).lease
    got: list[tuple[int, ...]] = []
    keep: list[Lease] = []
    async with anyio.create_task_group() as group:
        group.start_soon(_take, ledger, (1,), got, keep)
        await anyio.wait_all_tasks_blocked()
        held.release()
        group.start_soon(_take, ledger, (3, 1), got, keep)
        with anyio.move_on_after(0):  # requests a lease before the woken call has run
            await _take(ledger, (3, 2), got, keep)
        await anyio.wait_all_tasks_blocked()
        assert got == [(1,)]
        keep[0].release()
    assert got == [(1,), (3, 1)]


@pytest.mark.anyio
async def test_the_turn_of_a_cancelled_call_goes_to_the_next():
    """A call that is cancelled as it is woken passes its turn on, or has taken its lease and returns it."""
    ledger = Ledger(Budget(max_tokens=200))
    held = [(await ledger.lease("actor", ONE, (0,))).lease for _ in range(2)]
    got: list[tuple[int, ...]] = []
    keep: list[Lease] = []
    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as given_up:
            given_up.start_soon(_take, ledger, (1,), got, keep)
            group.start_soon(_take, ledger, (2,), got, keep)
            await anyio.wait_all_tasks_blocked()
            held[0].release()
            given_up.cancel_scope.cancel()
        if got == [(1,)]:
            keep[0].release()
    assert got[-1] == (2,)


@pytest.mark.anyio
async def test_a_call_waits_for_leases_that_may_settle_below_what_they_hold():
    """It is not shortened while another call runs, and gets what is left once none does."""
    ledger = Ledger(Budget(max_tokens=150))
    first = (await ledger.lease("actor", ONE)).lease
    got: list[tuple[int, ...]] = []
    keep: list[Lease] = []
    async with anyio.create_task_group() as group:
        group.start_soon(_take, ledger, (1,), got, keep)
        await anyio.wait_all_tasks_blocked()
        assert got == []
        first.settle(Usage(prompt_tokens=50, completion_tokens=10))
    assert keep[0].charge.tokens == 90
    assert keep[0].charge.completion_tokens == 30


@pytest.mark.anyio
async def test_a_draft_does_not_spend_the_tokens_of_its_verdict():
    """They are reserved with the draft, and the judgement then takes them, ahead of waiting calls."""
    ledger = Ledger(Budget(max_tokens=250))
    judgement = CallSize(max_prompt=20, expected_prompt=20, max_completion=10)
    grant = await ledger.lease("actor", CallSize(max_prompt=60, expected_prompt=60, max_completion=40, judgement=judgement))
    (reserved,) = grant.reserved
    assert reserved.charge.tokens == 20 + 40 + 10
    got: list[tuple[int, ...]] = []
    keep: list[Lease] = []
    async with anyio.create_task_group() as group:
        group.start_soon(_take, ledger, (0,), got, keep)
        await anyio.wait_all_tasks_blocked()
        assert got == []
        size = CallSize(max_prompt=60, expected_prompt=60, max_completion=10)
        verdict = (await ledger.lease("critic", size, (9,), reserved)).lease
        assert (verdict.charge.tokens, got) == (70, [])
        grant.lease.settle(Usage(prompt_tokens=60, completion_tokens=20))
    assert got == [(0,)]


@pytest.mark.anyio
async def test_the_account_has_the_spending_by_role():
    """It counts tokens, calls and cost; shares exist for the limits that are set."""
    limits = Budget(max_tokens=1000, max_calls=4, actor=RoleBudget(max_cost=1.0))
    ledger = Ledger(limits, {"actor": Price(0.001, 0.002)})
    (await ledger.lease("actor", ONE)).lease.settle(Usage(prompt_tokens=60, completion_tokens=40))
    (await ledger.lease("critic", ONE)).lease.forfeit()
    spent = ledger.spent(2.5)
    assert (spent.tokens, spent.completion_tokens, spent.calls, spent.seconds) == (200, 80, 2, 2.5)
    assert (spent.actor.tokens, spent.critic.tokens, ledger.tokens.total_tokens) == (100, 100, 200)
    assert spent.cost == spent.actor.cost == pytest.approx(0.14)
    assert ledger.shares() == pytest.approx({"max_tokens": 0.2, "max_calls": 0.5, "actor.max_cost": 0.14})
    with pytest.raises(LimitReached) as reached:
        ledger.require(actor=Charge(500, calls=1), critic=Charge(400, calls=1))
    assert (reached.value.limit, reached.value.needed) == ("max_tokens", 1100)
