"""Hard budgets as a tree of leases: what is spent plus what is leased never exceeds a limit."""

from orchestrator.budget.fitting import Want
from orchestrator.budget.ledger import Grant, Ledger, Place
from orchestrator.budget.tree import Charge, Lease, LimitReached, Price

__all__ = ["Charge", "Grant", "Lease", "Ledger", "LimitReached", "Place", "Price", "Want"]
