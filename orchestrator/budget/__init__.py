"""The budget of a solve.

`limits` holds the tree of limits and the leases under them, `sizing` decides how large a call may be under what is left, and
`ledger` grants leases and lets calls wait for each other. No limit is ever exceeded, whatever runs in parallel: a call
holds the most that it may spend until its usage is known.
"""

from orchestrator.budget.ledger import Grant, Ledger, Place
from orchestrator.budget.limits import BudgetNode, Charge, Lease, LimitReached, Price
from orchestrator.budget.sizing import CallSize

__all__ = ["BudgetNode", "CallSize", "Charge", "Grant", "Lease", "Ledger", "LimitReached", "Place", "Price"]
