"""Authentication of the routes that cost something: a bearer key, its tenant, and the tenant's rate."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.access.keys import Keys
from orchestrator.access.quotas import TenantQuotas
from services.errors import CounterpointError, Unauthenticated
from services.http.body_limit import Refuse, refusal

GUARDED = ("/solve", "/jobs", "/v1/")
"""The path prefixes that require a key; health, metrics, documentation, the page and the list of strategies stay open."""


@dataclass(frozen=True, slots=True)
class AuthMiddleware:
    """ASGI middleware: 401 without a known key, 429 over its rate; otherwise sets `scope["tenant"]` for the routes."""

    app: ASGIApp
    quotas: TenantQuotas
    error_formats: Mapping[str, Refuse]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        keys = self.quotas.keys
        if keys is not None and scope["type"] == "http" and scope["path"].startswith(GUARDED):
            try:
                scope["tenant"] = await self._authenticate(keys, Headers(scope=scope).get("authorization", ""))
            except CounterpointError as error:
                response = refusal(scope["path"], self.error_formats, error)
                if isinstance(error, Unauthenticated):
                    response.headers["www-authenticate"] = "Bearer"
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _authenticate(self, keys: Keys, authorization: str) -> str:
        scheme, _, key = authorization.partition(" ")
        tenant = keys.tenant_of(key.strip()) if scheme.lower() == "bearer" else None
        if tenant is None:
            raise Unauthenticated("this service requires a key: Authorization: Bearer <key>")
        await self.quotas.count_request(tenant)
        return tenant.tenant
