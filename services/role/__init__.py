"""Role services: the parts that an actor and a critic have in common.

A role service owns one engine and its calls in flight. Every call has the same life: it is held to its allowance before
anything is computed, admitted, followed through the engine, and ends with its exact usage, however it ends. Text that others
wrote is neutralised before it reaches a prompt.
"""

from services.role.in_flight import CallsInFlight
from services.role.service import OpenEngine, Reply, RoleService, create_role_app

__all__ = ["CallsInFlight", "OpenEngine", "Reply", "RoleService", "create_role_app"]
