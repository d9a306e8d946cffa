"""Jobs: solves that outlive the connection that submitted them.

Docket delivers each job to one or more workers; the store decides which of them runs it. A worker claims a job for a lease
and renews it; every later write carries the claim's epoch, so a worker that lost its claim cannot change the job any more.
Calls are journaled, so the next worker runs the strategy again from its beginning without paying for them twice.
"""

from orchestrator.jobs.job import Job
from orchestrator.jobs.routes import router
from orchestrator.jobs.runner import JobRunner
from orchestrator.jobs.store import TASK, JobStore

__all__ = ["TASK", "Job", "JobRunner", "JobStore", "router"]
