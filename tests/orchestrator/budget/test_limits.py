"""The tree of limits: the amounts that leases hold and charge, on their node and on every node above."""

from math import inf

import pytest
from budget.drawn import LIMITS, budgets, charges, prices, roles
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.budget import Charge, Lease, LimitReached, Price
from orchestrator.budget.limits import BudgetNode
from services.contracts.solve import Budget, Role, RoleBudget
from services.contracts.usage import Usage

usages = st.builds(Usage, prompt_tokens=st.integers(0, 200), completion_tokens=st.integers(0, 100))


def tree(limits: Budget, price: Price | None = None) -> dict[Role, BudgetNode]:
    """Return the nodes of the two roles, below a node for the whole solve."""
    whole = BudgetNode("total", limits)
    return {
        "actor": BudgetNode("actor", limits.actor, price or Price(), whole),
        "critic": BudgetNode("critic", limits.critic, price or Price(), whole),
    }


def rounded(charge: Charge) -> Charge:
    """Return a charge with a rounded cost, which can be compared."""
    return Charge(charge.tokens, charge.completion_tokens, charge.calls, round(charge.cost, 6))


@given(charges, charges, st.integers(0, 9))
def test_charges_add_up(first: Charge, second: Charge, n: int):
    """Subtraction undoes addition, and multiplication is repeated addition."""
    assert rounded(first + second - second) == rounded(first)
    assert rounded(first.times(n)) == rounded(sum([first] * n, Charge()))
    assert set(first.by_limit()) == set(LIMITS)


@given(budgets, roles, charges, usages, prices)
def test_a_lease_is_held_until_it_is_settled_and_then_charged_as_used(
    limits: Budget, role: Role, charge: Charge, used: Usage, price: Price
):
    """It counts on its node and those above, and nowhere else; ending it a second time changes nothing."""
    roles_ = tree(limits, price)
    node, other = roles_[role], roles_["critic" if role == "actor" else "actor"]
    closed: list[Lease] = []
    lease = Lease(node, charge, closed.append)
    assert all((each.held, each.spent) == (charge, Charge()) for each in node.lineage())
    lease.settle(used)
    actual = Charge(used.total_tokens, used.completion_tokens, 1, price.of(used))
    for end in (lease.forfeit, lease.release, lambda: lease.settle(used)):
        assert [rounded(each.held) for each in node.lineage()] == [Charge()] * 2
        assert [rounded(each.spent) for each in node.lineage()] == [rounded(actual)] * 2
        end()
    assert (other.held, other.spent) == (Charge(), Charge())
    assert closed == [lease]


@given(budgets, roles, charges, st.sampled_from(["forfeit", "release", "left", "raised"]))
def test_a_lease_that_is_never_settled_is_charged_in_full(limits: Budget, role: Role, charge: Charge, end: str):
    """This holds if it is forfeited or its context is left, also by an error; only a release returns it."""
    node = tree(limits)[role]
    lease = Lease(node, charge, lambda _: None)
    if end == "forfeit":
        lease.forfeit()
    elif end == "release":
        lease.release()
    elif end == "left":
        with lease:
            pass
    else:
        with pytest.raises(ZeroDivisionError), lease:
            raise ZeroDivisionError
    expected = Charge() if end == "release" else charge
    assert [rounded(each.spent) for each in node.lineage()] == [rounded(expected)] * 2
    assert not lease.open


@given(budgets, roles, st.lists(charges, max_size=4), charges)
def test_an_exceeded_limit_is_named(limits: Budget, role: Role, held: list[Charge], more: Charge):
    """`exceeded_by` names a limit if and only if the charge would exceed it; a limit that is not set is never exceeded."""
    node = tree(limits)[role]
    for charge in held:
        if all(each.exceeded_by(charge) is None for each in node.lineage()):
            Lease(node, charge, lambda _: None)
    for each in node.lineage():
        bounds: dict[str, float | None] = {name: getattr(each.limits, name) for name in LIMITS}
        after = (each.held + each.spent).by_limit()
        over = [name for name, amount in more.by_limit().items() if amount > _left(bounds[name], after[name])]
        assert each.exceeded_by(more) == (over[0] if over else None)
        assert all(each.left(name) == inf for name, bound in bounds.items() if bound is None)
        assert all(each.left(name) >= 0 for name in LIMITS if name != "max_cost")


def _left(bound: float | None, used: float) -> float:
    return inf if bound is None else bound - used


@given(prices, st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_a_cost_is_bounded_before_it_is_known(price: Price, tokens: int, completion: int, used: int):
    """However a call divides its tokens between prompt and completion, it costs no more than was held for it."""
    generated = min(used, completion, tokens)
    usage = Usage(prompt_tokens=tokens - generated, completion_tokens=generated)
    assert price.of(usage) <= price.at_most(tokens, completion) + 1e-9


def test_limits_have_their_names_in_a_request():
    """Those of a role are qualified, and the error includes what is already spent."""
    roles_ = tree(Budget(max_tokens=10, actor=RoleBudget(max_tokens=5)))
    actor = roles_["actor"]
    Lease(actor, Charge(3), lambda _: None).forfeit()
    reached = actor.limit_reached("max_tokens", 4)
    assert isinstance(reached, LimitReached)
    assert (reached.limit, reached.value, reached.needed) == ("actor.max_tokens", 5, 7)
    above = actor.parent
    assert above is not None
    assert above.limit_reached("max_tokens").limit == "max_tokens"
