"""Sizing of calls: properties of pure functions over the tree."""

from dataclasses import replace
from math import ceil

from budget.drawn import budgets, charges, exceeded, nodes, prices, roles, sizes
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from orchestrator.budget import CallSize, Charge, Lease, Ledger, LimitReached, Price
from orchestrator.budget.sizing import MIN_COMPLETION_SHARE, SizedCall, full_size, limit_error, reduced_size
from services.contracts.solve import Budget, Role

spent = st.lists(st.tuples(roles, charges), max_size=3)


def ledger_with(limits: Budget, price: Price, before: list[tuple[Role, Charge]]) -> Ledger:
    """Return a ledger in which some calls have been charged already, as far as they fitted."""
    ledger = Ledger(limits, {"actor": price, "critic": price})
    for role, charge in before:
        node = ledger.roles[role]
        if all(each.exceeded_by(charge) is None for each in node.lineage()):
            Lease(node, charge, lambda _: None).forfeit()
    return ledger


def hold(ledger: Ledger, role: Role, sized: SizedCall) -> None:
    """Lease a sized call, and reserve the judgement of each of its samples."""
    Lease(ledger.roles[role], sized.call, lambda _: None, sized.n)
    for _ in range(sized.n if sized.judgement else 0):
        assert sized.judgement
        Lease(ledger.roles["critic"], sized.judgement, lambda _: None)


def completion_of(sized: SizedCall) -> int:
    """Return the completion tokens of each sample."""
    return sized.call.completion_tokens // sized.n


@given(budgets, prices, spent, roles, sizes())
def test_a_call_that_fits_never_exceeds_a_limit(
    limits: Budget, price: Price, before: list[tuple[Role, Charge]], role: Role, size: CallSize
):
    """This holds for the call with its reservations, under all limits; at least one token can be written."""
    ledger = ledger_with(limits, price, before)
    sized = full_size(ledger.roles, role, size) or reduced_size(ledger.roles, role, size)
    if sized is None:
        event("nothing fits")
        return
    event("fits")
    assert 1 <= sized.n <= size.n
    assert 1 <= completion_of(sized) <= size.max_completion
    assert sized.call.calls == 1
    assert sized.call.tokens > sized.call.completion_tokens
    hold(ledger, role, sized)
    assert [exceeded(node) for node in nodes(ledger)] == [[], [], []]


@given(budgets, prices, spent, roles, sizes())
def test_samples_are_reduced_before_tokens(
    limits: Budget, price: Price, before: list[tuple[Role, Charge]], role: Role, size: CallSize
):
    """A shorter call has one sample; a call with fewer samples is one in which one more would not have fitted."""
    ledger = ledger_with(limits, price, before)
    sized = reduced_size(ledger.roles, role, size)
    assume(sized is not None)
    assert sized is not None
    if completion_of(sized) < size.max_completion:
        event("shorter")
        assert sized.n == 1
    if sized.n < size.n:
        event("fewer")
        assert full_size(ledger.roles, role, replace(size, max_prompt=size.expected_prompt, n=sized.n + 1)) is None
    if sized.judgement is None and size.judgement is not None:
        event("not judged")
        assert not size.require_judgement
        half = ceil(completion_of(sized) * MIN_COMPLETION_SHARE)
        expected = replace(size, max_prompt=size.expected_prompt, n=1)
        assert full_size(ledger.roles, role, replace(expected, max_completion=half)) is None


@given(budgets, prices, spent, roles, sizes())
def test_a_call_that_fits_is_not_reduced(
    limits: Budget, price: Price, before: list[tuple[Role, Charge]], role: Role, size: CallSize
):
    """It has the bound of its prompt, all samples at full length, and every judgement reserved."""
    ledger = ledger_with(limits, price, before)
    sized = full_size(ledger.roles, role, size)
    assume(sized is not None)
    assert sized is not None
    assert (sized.n, completion_of(sized)) == (size.n, size.max_completion)
    assert sized.call.tokens == size.max_prompt + size.n * size.max_completion
    assert (sized.judgement is None) == (size.judgement is None)
    small = reduced_size(ledger.roles, role, size)
    assert small is not None
    assert (small.n, completion_of(small)) == (sized.n, completion_of(sized))


@settings(suppress_health_check=[HealthCheck.filter_too_much])  # most calls fit
@given(budgets, prices, spent, roles, sizes())
def test_a_refusal_names_a_limit_and_the_amount_needed(
    limits: Budget, price: Price, before: list[tuple[Role, Charge]], role: Role, size: CallSize
):
    """The named limit is set, and it is smaller than the amount needed."""
    ledger = ledger_with(limits, price, before)
    assume(reduced_size(ledger.roles, role, size) is None)
    reached = limit_error(ledger.roles, role, size)
    assert isinstance(reached, LimitReached)
    *part, name = reached.limit.split(".")
    holder = getattr(limits, part[0]) if part else limits
    assert reached.value == getattr(holder, name)
    assert reached.needed is not None
    assert reached.needed > reached.value * (1 - 1e-9)


@given(budgets, prices, roles, sizes(), st.integers(1, 200))
def test_more_budget_never_makes_a_call_smaller(limits: Budget, price: Price, role: Role, size: CallSize, more: int):
    """A higher limit on all tokens allows at least as many samples of at least the same length."""
    assume(limits.max_tokens is not None)
    assert limits.max_tokens is not None
    small = reduced_size(ledger_with(limits, price, []).roles, role, size)
    assume(small is not None)
    assert small is not None
    raised = limits.model_copy(update={"max_tokens": limits.max_tokens + more})
    large = reduced_size(ledger_with(raised, price, []).roles, role, size)
    assert large is not None
    judged = small.judgement is None or large.judgement is not None
    assert judged
    if (small.judgement is None) == (large.judgement is None):
        assert (large.n, completion_of(large)) >= (small.n, completion_of(small))
