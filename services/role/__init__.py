"""Role services: the parts that the actor and the critic have in common.

A role service owns one engine and the calls in flight. Every call has the same life cycle: it is capped by its allowance
before anything is computed, admitted, run by the engine, and reports its exact usage however it ends. Text from a request is
neutralised before it reaches a prompt.
"""

from services.role.service import OpenEngine, RoleService, create_role_app

__all__ = ["OpenEngine", "RoleService", "create_role_app"]
