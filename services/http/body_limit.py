"""Refuses bodies that are larger than the service reads, announced or not."""

from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.contracts.errors import Limit
from services.errors import CounterpointError, RequestTooLarge
from services.http.error_responses import Refused, problem_response

Refuse = Callable[[CounterpointError], Response]
"""An error as a response."""


def refusal(path: str, forms: Mapping[str, Refuse], error: CounterpointError) -> Response:
    """An error in the form of the paths that begin like `path`: a problem object unless `forms` says otherwise."""
    written = next((form for prefix, form in forms.items() if path.startswith(prefix)), None)
    return problem_response(error.problem()) if written is None else written(error)


class BodyLimit:
    """ASGI middleware: 413 for a body over `max_bytes`."""

    def __init__(self, app: ASGIApp, max_bytes: int, forms: Mapping[str, Refuse] | None = None) -> None:
        """`forms`: how errors are written under paths that begin with these prefixes."""
        self.app = app
        self.max_bytes = max_bytes
        self.forms = forms or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > self.max_bytes:
            response = refusal(scope["path"], self.forms, self._error(int(announced)))
            await response(scope, receive, send)
            return
        await self.app(scope, self._counting(receive), send)

    def _counting(self, receive: Receive) -> Receive:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_bytes:
                raise Refused(self._error(None))
            return message

        return counted

    def _error(self, size: int | None) -> RequestTooLarge:
        return RequestTooLarge(
            f"the body is larger than {self.max_bytes} bytes",
            limit=Limit(name="max_body_bytes", value=self.max_bytes, needed=size),
        )
