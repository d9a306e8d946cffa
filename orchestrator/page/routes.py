"""Serves the page. Nothing on it comes from another host, and what models write is text, never markup."""

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).with_name("static")

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
"""Only the service's own files; they are asked for again with their ETag."""


class Files(StaticFiles):
    """The page's files, with its headers."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, or the error of one that is not there."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


def router() -> APIRouter:
    """The page and its files."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def page() -> FileResponse:
        """The page."""
        return FileResponse(STATIC / "index.html", headers=HEADERS)

    routes.mount("/static", Files(directory=STATIC))
    return routes
