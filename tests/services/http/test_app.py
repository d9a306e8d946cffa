"""The application of every service: problem details, body limits, request ids, health checks and metrics."""

import json
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import anyio
import httpx
import pytest
from dirty_equals import IsPartialDict, IsStr
from fastapi import APIRouter, Depends, FastAPI
from pydantic import Field

from services.call_context import CallContext, call_context
from services.contracts.base import Request, Text
from services.contracts.errors import Limit
from services.errors import CounterpointError, NotFound, Overloaded
from services.http.app import create_app
from services.http.health import Check
from services.observability.metrics import ServiceMetrics
from services.settings import ServiceSettings
from services.testing import serve

pytestmark = pytest.mark.anyio

LIMIT = 2048
SECRET = "hunter2"  # noqa: S105 - must not appear in any response


class Square(Request):
    """A request body with a required literal, a bounded number and an optional text."""

    kind: Literal["square"]
    side: Annotated[float, Field(gt=0, le=100)]
    name: Text = ""


def routes() -> APIRouter:
    """Create routes that succeed, raise typed errors and raise an unexpected error."""
    router = APIRouter()

    @router.post("/square/{number}")
    async def square(number: int, body: Square) -> dict[str, float]:
        return {"number": number, "area": body.side**2}

    @router.get("/busy")
    async def busy() -> None:
        raise Overloaded("too much to do", limit=Limit(name="calls", value=3), retry_after=0.2)

    @router.get("/missing")
    async def missing() -> None:
        raise NotFound("there is no such thing")

    @router.get("/broken")
    async def broken() -> None:
        raise RuntimeError(SECRET)

    @router.get("/who")
    async def who(call: Annotated[CallContext, Depends(call_context)]) -> dict[str, Any]:
        return {"headers": call.headers(), "remaining": call.remaining()}

    return router


@asynccontextmanager
async def _no_lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    yield


async def _failing_check() -> None:
    raise NotFound("nobody home")


async def _passing_check() -> None:
    return


def build_app(checks: dict[str, Check] | None = None) -> FastAPI:
    """Create an application with the test routes."""
    return create_app(
        title="Test",
        settings=ServiceSettings(max_body_bytes=LIMIT),
        lifespan=_no_lifespan,
        routers=[routes()],
        checks=checks or {},
        service_metrics=ServiceMetrics(),
    )


@pytest.fixture(scope="module")
async def client() -> AsyncGenerator[httpx.AsyncClient]:
    """Run the application and yield a client of it."""
    async with serve(build_app()) as url, httpx.AsyncClient(base_url=url) as http:
        yield http


def problem(response: httpx.Response) -> dict[str, Any]:
    """Return the problem object of a response, after checking its standard members."""
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:counterpoint:error:{body['code']}"
    assert body["title"]
    assert body["detail"]
    return body


async def test_a_good_request(client: httpx.AsyncClient) -> None:
    """A valid request returns its response."""
    response = await client.post("/square/2", json={"kind": "square", "side": 3})
    assert (response.status_code, response.json()) == (200, {"number": 2, "area": 9.0})


@pytest.mark.parametrize(
    ("body", "where", "kind"),
    [
        (b"{", ["body", 1], "json_invalid"),
        (b"", ["body"], "missing"),
        (b'{"kind":"\xff"}', ["body"], "json_invalid"),
        (b"[" * 2000, ["body"], "json_invalid"),
        (b"[]", ["body"], "model_attributes_type"),
        (b'{"kind":"square"}', ["body", "side"], "missing"),
        (b'{"kind":"hunter2","side":1}', ["body", "kind"], "literal_error"),
        (b'{"kind":"square","side":NaN}', ["body", "side"], "finite_number"),
        (b'{"kind":"square","side":"hunter2"}', ["body", "side"], "float_parsing"),
        (b'{"kind":"square","side":1,"nmae":""}', ["body", "nmae"], "extra_forbidden"),
        (b'{"kind":"square","side":1,"name":"\\ud800"}', ["body", "name"], "string_unicode"),
        (b'{"kind":"square","side":1,"name":"\\u0000"}', ["body", "name"], "value_error"),
        (b'{"kind":"square","side":1,"\\ud800":""}', ["body"], "string_unicode"),
    ],
)
async def test_invalid_bodies(client: httpx.AsyncClient, body: bytes, where: list[str | int], kind: str) -> None:
    """The error for an invalid body has its location and type, and does not repeat the body."""
    response = await client.post("/square/1", content=body, headers={"content-type": "application/json"})
    details = problem(response)
    assert (details["status"], details["code"]) == (422, "invalid_request")
    assert details["errors"] == [{"loc": where, "msg": IsStr(), "type": kind}]
    assert SECRET not in response.text


@pytest.mark.parametrize(
    ("side", "limit"), [(0, {"name": "side", "value": 0.0}), (101, {"name": "side", "value": 100.0}), ("x", None)]
)
async def test_a_violated_bound_is_named(client: httpx.AsyncClient, side: object, limit: object) -> None:
    """The error for a number out of bounds names the bound."""
    response = await client.post("/square/1", json={"kind": "square", "side": side})
    assert problem(response).get("limit") == limit


async def test_a_bad_path_parameter(client: httpx.AsyncClient) -> None:
    """An invalid path parameter is reported like an invalid body."""
    response = await client.post("/square/one", json={"kind": "square", "side": 1})
    assert problem(response)["errors"] == [{"loc": ["path", "number"], "msg": IsStr(), "type": "int_parsing"}]


async def test_long_names_are_truncated(client: httpx.AsyncClient) -> None:
    """The name of an unknown field is truncated in the error."""
    response = await client.post("/square/1", json={"kind": "square", "side": 1, "x" * 1500: 1})
    assert problem(response)["code"] == "invalid_request"
    assert len(response.content) < 1000


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/square/1", 405, "method_not_allowed"),
        ("PATCH", "/busy", 405, "method_not_allowed"),
        ("GET", "/missing", 404, "not_found"),
    ],
)
async def test_errors_are_problem_details(client: httpx.AsyncClient, method: str, path: str, status: int, code: str) -> None:
    """Unknown paths and methods, and a service's own errors, return problem details."""
    details = problem(await client.request(method, path))
    assert (details["status"], details["code"]) == (status, code)


async def test_a_405_lists_the_allowed_methods(client: httpx.AsyncClient) -> None:
    """A 405 lists the allowed methods."""
    assert (await client.get("/square/1")).headers["allow"] == "POST"


async def test_retry_after(client: httpx.AsyncClient) -> None:
    """The body holds the exact time to wait; the header holds whole seconds, at least one."""
    response = await client.get("/busy")
    assert problem(response) == IsPartialDict(
        status=503, code="overloaded", retry_after=0.2, limit={"name": "calls", "value": 3}
    )
    assert response.headers["retry-after"] == "1"


async def test_an_unexpected_error_is_not_disclosed(client: httpx.AsyncClient) -> None:
    """An unexpected error is a 500 with the request id and without the cause."""
    response = await client.get("/broken")
    assert problem(response)["code"] == "internal_error"
    assert SECRET not in response.text
    assert response.headers["x-request-id"].startswith("req_")


async def _chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 64):
        yield b" " * 64


@pytest.mark.parametrize("announced", [True, False])
async def test_large_bodies(client: httpx.AsyncClient, *, announced: bool) -> None:
    """A body over the limit is refused with the limit, with or without a `Content-Length`."""
    content = b" " * (LIMIT + 64) if announced else _chunks(LIMIT + 64)
    response = await client.post("/square/1", content=content, headers={"content-type": "application/json"})
    details = problem(response)
    assert (details["status"], details["code"]) == (413, "request_too_large")
    assert details["limit"] == IsPartialDict(name="max_body_bytes", value=LIMIT)


async def test_a_body_at_the_limit(client: httpx.AsyncClient) -> None:
    """A body of exactly the maximum size is accepted."""
    body = json.dumps({"kind": "square", "side": 1}).encode().ljust(LIMIT)
    assert (await client.post("/square/1", content=body, headers={"content-type": "application/json"})).is_success


async def test_request_ids(client: httpx.AsyncClient) -> None:
    """A well-formed request id is kept. A malformed one is replaced."""
    assert (await client.get("/nowhere", headers={"X-Request-ID": "mine-1"})).headers["x-request-id"] == "mine-1"
    for bad in ("a b", "x" * 129, "semi;colon", ""):
        assert (await client.get("/nowhere", headers={"X-Request-ID": bad})).headers["x-request-id"].startswith("req_")


async def test_identity_is_passed_on(client: httpx.AsyncClient) -> None:
    """The headers for the next hop equal the received ones, except for a shorter deadline."""
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    sent = {"X-Request-ID": "r1", "X-Session-ID": "solve_1", "X-Call-ID": "c1", "traceparent": trace}
    body = (await client.get("/who", headers={**sent, "X-Deadline-Ms": "5000"})).json()
    left = int(body["headers"].pop("X-Deadline-Ms"))
    assert body["headers"] == sent
    assert 3000 < left <= 5000
    assert 3 < body["remaining"] <= 5


async def test_missing_or_malformed_identity_is_replaced(client: httpx.AsyncClient) -> None:
    """Missing and malformed ids are replaced, and a malformed trace is dropped. Without a header there is no deadline."""
    sent = {"X-Session-ID": "a b", "X-Call-ID": "<b>", "traceparent": "00-x"}
    response = await client.get("/who", headers=sent)
    headers, request_id = response.json()["headers"], response.headers["x-request-id"]
    assert headers == {"X-Request-ID": request_id, "X-Session-ID": request_id, "X-Call-ID": IsStr(regex="call_[0-9a-f]{32}")}
    assert response.json()["remaining"] is None


@pytest.mark.parametrize("bad", ["0", "-1", "1.5", "abc", "", "9" * 30, "86400001", "+5", "\u00b2", "1_000"])
async def test_bad_deadlines(client: httpx.AsyncClient, bad: str) -> None:
    """A deadline that is not a whole number of milliseconds in range is refused."""
    details = problem(await client.get("/who", headers=[(b"X-Deadline-Ms", bad.encode("latin-1"))]))
    assert details["errors"] == [{"loc": ["header", "X-Deadline-Ms"], "msg": IsStr(), "type": "deadline"}]


async def test_health(client: httpx.AsyncClient) -> None:
    """`/healthz` responds, and a service without checks is ready."""
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json() == {"ready": True, "checks": {}}


@pytest.mark.parametrize(("required", "status", "state"), [(True, 503, "down"), (False, 200, "degraded")])
async def test_readiness(*, required: bool, status: int, state: str) -> None:
    """A failed required check makes the service unready. A failed optional check is reported as degraded."""
    checks = {"actor": Check(_passing_check), "critic": Check(_failing_check, required=required)}
    async with serve(build_app(checks)) as url, httpx.AsyncClient(base_url=url) as http:
        response = await http.get("/readyz")
    assert response.status_code == status
    assert response.json() == {"ready": not required, "checks": {"actor": "ok", "critic": state}}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_metrics_pass_promtool(client: httpx.AsyncClient) -> None:
    """`promtool` accepts `/metrics`, which counts requests by route template."""
    await client.post("/square/2", json={"kind": "square", "side": 3})
    await client.get("/broken")
    await client.get("/nowhere/else")
    text = (await client.get("/metrics")).text
    for route, method, status in (
        ("/square/{number}", "POST", 200),
        ("/broken", "GET", 500),
        ("unmatched", "GET", 404),
        ("/readyz", "GET", 200),
    ):
        assert f'counterpoint_http_requests_total{{method="{method}",route="{route}",status="{status}"}}' in text
    checked = await anyio.run_process(["promtool", "check", "metrics"], input=text.encode(), check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_two_applications_do_not_share_metrics() -> None:
    """Two applications can be created in one process."""
    assert build_app() is not build_app()


def test_every_error_has_its_own_code() -> None:
    """Every class directly below the root has its own code and an HTTP error status."""
    kinds = CounterpointError.__subclasses__()
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(400 <= kind.status < 600 for kind in kinds)
