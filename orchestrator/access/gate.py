"""The gate before the routes that cost something: a bearer key, its tenant, its rate."""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.access.limits import Limits
from services.errors import CounterpointError, Unauthenticated
from services.limits import Refuse, refusal

GUARDED = ("/solve", "/jobs", "/v1/")
"""Health, metrics, documentation, the page's files and the list of strategies stay open."""


class Gate:
    """Lets requests with a known key pass, and tells the routes whose it is (`scope["tenant"]`)."""

    def __init__(self, app: ASGIApp, limits: Limits, forms: Mapping[str, Refuse]) -> None:
        self.app = app
        self.limits = limits
        self.forms = forms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if self.limits.keys is not None and scope["type"] == "http" and scope["path"].startswith(GUARDED):
            try:
                scope["tenant"] = await self._tenant(Headers(scope=scope).get("authorization", ""))
            except CounterpointError as error:
                response = refusal(scope["path"], self.forms, error)
                if isinstance(error, Unauthenticated):
                    response.headers["www-authenticate"] = "Bearer"
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _tenant(self, authorization: str) -> str:
        kind, _, key = authorization.partition(" ")
        assert self.limits.keys is not None  # noqa: S101 - asked by the caller
        tenant = self.limits.keys.of(key.strip()) if kind.lower() == "bearer" else None
        if tenant is None:
            raise Unauthenticated("this service wants a key: Authorization: Bearer <key>")
        await self.limits.pass_rate(tenant)
        return tenant.tenant
