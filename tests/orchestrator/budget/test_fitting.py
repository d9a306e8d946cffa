"""How large a call may be: properties of pure functions over the tree."""

from dataclasses import replace
from math import ceil

from budget.drawn import budgets, charges, exceeded, nodes, prices, roles, wants
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from orchestrator.budget import Charge, Lease, Ledger, LimitReached, Price, Want
from orchestrator.budget.fitting import KEPT_BESIDE_JUDGEMENT, Fit, exhausted, shrunk, whole
from services.contracts.solve import Budget, Role

spent = st.lists(st.tuples(roles, charges), max_size=3)


def ledger_with(limits: Budget, price: Price, before: list[tuple[Role, Charge]]) -> Ledger:
    """A ledger in which some calls are charged already, as far as they fit."""
    ledger = Ledger(limits, {"actor": price, "critic": price})
    for role, charge in before:
        node = ledger.roles[role]
        if all(each.lacking(charge) is None for each in node.lineage()):
            Lease(node, charge, lambda _: None).forfeit()
    return ledger


def hold(ledger: Ledger, role: Role, fit: Fit) -> None:
    """Lease a fit: the call, and a reservation for judging each of its samples."""
    Lease(ledger.roles[role], fit.call, lambda _: None, fit.n)
    for _ in range(fit.n if fit.judge else 0):
        assert fit.judge
        Lease(ledger.roles["critic"], fit.judge, lambda _: None)


def completion_of(fit: Fit) -> int:
    """Completion tokens of each sample."""
    return fit.call.completion_tokens // fit.n


@given(budgets, prices, spent, roles, wants())
def test_what_fits_never_exceeds_a_limit(
    limits: Budget, price: Price, before: list[tuple[Role, Charge]], role: Role, want: Want
):
    """Held together with its reservations, under its own limits and everybody's; at least one token can be written."""
    ledger = ledger_with(limits, price, before)
    fit = whole(ledger.roles, role, want) or shrunk(ledger.roles, role, want)
    if fit is None:
        event("nothing fits")
        return
    event("fits")
    assert 1 <= fit.n <= want.n
    assert 1 <= completion_of(fit) <= want.completion
    assert fit.call.calls == 1
    assert fit.call.tokens > fit.call.completion_tokens
    hold(ledger, role, fit)
    assert [exceeded(node) for node in nodes(ledger)] == [[], [], []]


@given(budgets, prices, spent, roles, wants())
def test_samples_are_given_up_before_tokens(
    limits: Budget, price: Price, before: list[tuple[Role, Charge]], role: Role, want: Want
):
    """Shorter than wanted means only one; fewer than wanted means that one more would not have fitted whole."""
    ledger = ledger_with(limits, price, before)
    fit = shrunk(ledger.roles, role, want)
    assume(fit is not None)
    assert fit is not None
    if completion_of(fit) < want.completion:
        event("shorter")
        assert fit.n == 1
    if fit.n < want.n:
        event("fewer")
        assert whole(ledger.roles, role, replace(want, bound=want.likely, n=fit.n + 1)) is None
    if fit.judge is None and want.judge is not None:
        event("not judged")
        assert not want.strict
        half = ceil(completion_of(fit) * KEPT_BESIDE_JUDGEMENT)
        assert whole(ledger.roles, role, replace(want, bound=want.likely, n=1, completion=half)) is None


@given(budgets, prices, spent, roles, wants())
def test_what_fits_whole_is_had_whole(
    limits: Budget, price: Price, before: list[tuple[Role, Charge]], role: Role, want: Want
):
    """With its bound as prompt, every sample at its length, and every judgement reserved."""
    ledger = ledger_with(limits, price, before)
    fit = whole(ledger.roles, role, want)
    assume(fit is not None)
    assert fit is not None
    assert (fit.n, completion_of(fit)) == (want.n, want.completion)
    assert fit.call.tokens == want.bound + want.n * want.completion
    assert (fit.judge is None) == (want.judge is None)
    small = shrunk(ledger.roles, role, want)
    assert small is not None
    assert (small.n, completion_of(small)) == (fit.n, completion_of(fit))


@settings(suppress_health_check=[HealthCheck.filter_too_much])  # most calls fit
@given(budgets, prices, spent, roles, wants())
def test_a_refusal_names_a_limit_and_what_would_be_needed(
    limits: Budget, price: Price, before: list[tuple[Role, Charge]], role: Role, want: Want
):
    """The limit that was named is set and is smaller than what is needed; with that and no other limit, the call fits."""
    ledger = ledger_with(limits, price, before)
    assume(shrunk(ledger.roles, role, want) is None)
    reached = exhausted(ledger.roles, role, want)
    assert isinstance(reached, LimitReached)
    *part, name = reached.limit.split(".")
    holder = getattr(limits, part[0]) if part else limits
    assert reached.value == getattr(holder, name)
    assert reached.needed is not None
    assert reached.needed > reached.value * (1 - 1e-9)


@given(budgets, prices, roles, wants(), st.integers(1, 200))
def test_more_budget_never_makes_a_call_smaller(limits: Budget, price: Price, role: Role, want: Want, more: int):
    """Raising the limit on all tokens, nothing that fitted is lost."""
    assume(limits.max_tokens is not None)
    assert limits.max_tokens is not None
    small = shrunk(ledger_with(limits, price, []).roles, role, want)
    assume(small is not None)
    assert small is not None
    raised = limits.model_copy(update={"max_tokens": limits.max_tokens + more})
    large = shrunk(ledger_with(raised, price, []).roles, role, want)
    assert large is not None
    judged = small.judge is None or large.judge is not None
    assert judged
    if (small.judge is None) == (large.judge is None):
        assert (large.n, completion_of(large)) >= (small.n, completion_of(small))
