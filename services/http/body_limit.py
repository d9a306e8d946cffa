"""The limit on the size of request bodies, announced or not."""

from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.contracts.errors import Limit
from services.errors import CounterpointError, RequestTooLarge
from services.http.error_responses import Refused, problem_response

Refuse = Callable[[CounterpointError], Response]
"""Turns an error into a response."""


def refusal(path: str, error_formats: Mapping[str, Refuse], error: CounterpointError) -> Response:
    """Return an error in the format of the prefix of `path` in `error_formats`, else as problem details."""
    refuse = next((refuse for prefix, refuse in error_formats.items() if path.startswith(prefix)), None)
    return problem_response(error) if refuse is None else refuse(error)


class BodyLimit:
    """ASGI middleware: responds with 413 to a body of more than `max_bytes`."""

    def __init__(self, app: ASGIApp, max_bytes: int, error_formats: Mapping[str, Refuse] | None = None) -> None:
        """`error_formats` has the error format of the paths that begin with each of its keys."""
        self.app = app
        self.max_bytes = max_bytes
        self.error_formats = error_formats or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, counting the bytes of its body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > self.max_bytes:
            response = refusal(scope["path"], self.error_formats, self._error(int(announced)))
            await response(scope, receive, send)
            return
        await self.app(scope, self._counting(receive), send)

    def _counting(self, receive: Receive) -> Receive:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise Refused(self._error(None))
            return message

        return counted

    def _error(self, size: int | None) -> RequestTooLarge:
        return RequestTooLarge(
            f"the body is larger than {self.max_bytes} bytes",
            limit=Limit(name="max_body_bytes", value=self.max_bytes, needed=size),
        )
