"""The budget of a solve.

`tree` holds the limits and the leases under them, `sizing` decides how large a call may be under what is left, and
`ledger` grants leases and lets calls wait for each other. No limit is ever exceeded, whatever runs in parallel: a call
holds the most that it may spend until its usage is known.
"""

from orchestrator.budget.ledger import Grant, Ledger, Place
from orchestrator.budget.sizing import CallSize
from orchestrator.budget.tree import BudgetNode, Charge, Lease, LimitReached, Price

__all__ = ["BudgetNode", "CallSize", "Charge", "Grant", "Lease", "Ledger", "LimitReached", "Place", "Price"]
