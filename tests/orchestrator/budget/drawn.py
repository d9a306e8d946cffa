"""Budgets, prices and sizes for property tests: small numbers, so that limits bind often."""

from hypothesis import strategies as st

from orchestrator.budget import CallSize, Charge, Ledger, Price
from orchestrator.budget.limits import BudgetNode
from services.contracts.solve import ROLES, Budget, Role, RoleBudget

LIMITS = ("max_tokens", "max_completion_tokens", "max_calls", "max_cost")

_limits = {
    "max_tokens": st.none() | st.integers(1, 400),
    "max_completion_tokens": st.none() | st.integers(1, 150),
    "max_calls": st.none() | st.integers(1, 8),
    "max_cost": st.none() | st.floats(0.01, 2),
}
role_budgets = st.builds(RoleBudget, **_limits)
budgets = st.builds(Budget, **_limits, actor=role_budgets, critic=role_budgets)
prices = st.builds(Price, st.sampled_from([0.0, 0.001, 0.01]), st.sampled_from([0.0, 0.002, 0.02]))
roles: st.SearchStrategy[Role] = st.sampled_from(ROLES)
charges = st.builds(Charge, st.integers(0, 300), st.integers(0, 100), st.integers(0, 4), st.floats(0, 1))


@st.composite
def sizes(draw: st.DrawFn, *, judged: bool = True) -> CallSize:
    """Draw the size of a call; the expected prompt is never longer than its bound."""
    bound = draw(st.integers(1, 120))
    return CallSize(
        max_prompt=bound,
        expected_prompt=draw(st.integers(1, bound)),
        max_completion=draw(st.integers(1, 60)),
        n=draw(st.integers(1, 6)) if judged else 1,
        judgement=draw(st.none() | sizes(judged=False)) if judged else None,
        require_judgement=draw(st.booleans()) if judged else False,
        reads=draw(st.sampled_from([1.0, 3.0])),
    )


def nodes(ledger: Ledger) -> list[BudgetNode]:
    """Return all nodes of the tree."""
    return [ledger.total, *ledger.roles.values()]


def exceeded(node: BudgetNode) -> list[str]:
    """Return the limits of a node that its spent and held amounts exceed (costs by more than rounding)."""
    amounts = (node.spent + node.held).by_limit()
    bounds: dict[str, float | None] = {name: getattr(node.limits, name) for name in LIMITS}
    return [name for name, bound in bounds.items() if bound is not None and amounts[name] > bound * (1 + 1e-9)]
