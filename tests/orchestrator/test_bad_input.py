"""Invalid input at every route of the three services: the answer is a problem object that names the field and the limit."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx
import pytest
from bad_bodies import EVERYWHERE, NEEDS, ROUTES, Bad, completed, message, nested, raw, with_problem
from stack import Stack, stack

from services.contracts.base import MAX_TEXT_CHARS

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
MAX_BODY_BYTES = 1_048_576


@pytest.fixture(scope="module")
async def running() -> AsyncGenerator[Stack]:
    """Run all three services."""
    async with stack() as services:
        yield services


TABLE = [
    pytest.param(path, bad, id=f"{path} {name}")
    for path, (_, own) in ROUTES.items()
    for name, bad in (*((name, completed(path, bad)) for name, bad in EVERYWHERE.items()), *own.items())
]


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is a short problem object with this status and code, and return it."""
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.content) < 4_000
    body = response.json()
    assert {"type", "title", "status", "detail", "code"} <= set(body)
    assert (response.status_code, body["status"], body["code"]) == (status, status, code), body
    assert body["type"] == f"urn:counterpoint:error:{code}"
    assert body["title"]
    assert body["detail"]
    return body


async def post(running: Stack, path: str, content: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    """Send a body as it is."""
    url = running.urls[ROUTES[path][0]] + path
    return await running.client.post(url, content=content, headers=JSON if headers is None else headers)


@pytest.mark.parametrize(("path", "bad"), TABLE)
async def test_a_bad_body_is_refused(running: Stack, path: str, bad: Bad):
    """The answer is 422 with the location of the mistake and the exceeded limit, and no engine is called."""
    before = running.actor.generations, running.critic.generations
    error = problem(await post(running, path, bad.body), 422, "invalid_request")
    places = [".".join(str(part) for part in entry["loc"] if part != "body") or "body" for entry in error["errors"]]
    assert bad.field in places or (bad.field == "body" and error["errors"][0]["loc"][0] == "body"), error
    if bad.limit is not None:
        assert error["limit"] == {"name": bad.field, "value": bad.limit}
    assert (running.actor.generations, running.critic.generations) == before


async def _chunks() -> AsyncIterator[bytes]:
    for _ in range(MAX_BODY_BYTES // 65_536 + 1):
        yield b" " * 65_536


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("path", ROUTES)
async def test_a_large_body_is_refused_with_the_limit(running: Stack, path: str, *, announced: bool):
    """The answer is 413, whether or not the request announces its length."""
    error = problem(
        await post(running, path, b" " * (MAX_BODY_BYTES + 1) if announced else _chunks()), 413, "request_too_large"
    )
    assert error["limit"]["name"] == "max_body_bytes"
    assert error["limit"]["value"] == MAX_BODY_BYTES


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"]
)
@pytest.mark.parametrize("path", ROUTES)
async def test_the_content_type_must_be_json(running: Stack, path: str, kind: str | None):
    """Any other content type is refused with the name of the header, whatever the body holds."""
    error = problem(
        await post(running, path, with_problem(), {} if kind is None else {"content-type": kind}), 422, "invalid_request"
    )
    assert error["errors"][0]["loc"] == ["header", "content-type"]


@pytest.mark.parametrize("path", ROUTES)
async def test_a_bad_deadline_is_refused(running: Stack, path: str):
    """The refusal names the header `X-Deadline-Ms`."""
    body = with_problem(**NEEDS.get(path, {}))
    error = problem(await post(running, path, body, {**JSON, "x-deadline-ms": "soon"}), 422, "invalid_request")
    assert [entry["loc"] for entry in error["errors"]] == [["header", "X-Deadline-Ms"]]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ROUTES)
async def test_only_post_is_allowed(running: Stack, path: str, method: str):
    """Other methods get 405 with `Allow: POST`."""
    response = await running.client.request(method, running.urls[ROUTES[path][0]] + path)
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


async def test_a_stream_that_cannot_begin_is_a_plain_error(running: Stack):
    """An invalid request for a stream is refused before the stream starts."""
    for headers, body in (
        (JSON, with_problem(stream=True, trace="all")),
        ({**JSON, "accept": "text/event-stream"}, with_problem(budget={"max_cost": 1})),
    ):
        problem(await post(running, "/solve", body, headers), 422, "invalid_request")


UNUSUAL = {
    "the last of duplicate names": b'{"problem":"","problem":"Add 1 and 2.","strategy":"single"}',
    "a byte order mark": b"\xef\xbb\xbf" + with_problem(strategy="single"),
    "nulls for omitted fields": with_problem(messages=None, strategy=None),
    "a whole surrogate pair": b'{"problem":"Add \\ud83d\\ude00 1 and 2.","strategy":"single"}',
    "the longest problem": with_problem(problem="x" * MAX_TEXT_CHARS, strategy="single", budget={"max_tokens": 10_000_000}),
    "control characters": b'{"problem":"Add\\u0001\\u202e\\ufffe 1 and 2.","strategy":"single"}',
    "a conversation that an assistant ends": json.dumps(
        {"messages": [message("Add 1 and 2."), message("3", "assistant")], "strategy": "single"}
    ).encode(),
    "two levels": raw(f'"strategy":{nested(2)}'),
}


@pytest.mark.parametrize("body", UNUSUAL.values(), ids=UNUSUAL)
async def test_unusual_but_valid_bodies_are_solved(running: Stack, body: bytes):
    """Input is refused only if it is invalid."""
    response = await post(running, "/solve", body)
    assert response.status_code == 200, response.text


async def test_an_unknown_call_cannot_be_cancelled(running: Stack):
    """Cancelling an unknown call is no error; the answer is `{"cancelled": false}`."""
    for url in running.urls[1:]:
        response = await running.client.delete(f"{url}/v1/calls/{'x' * 2_000}")
        assert (response.status_code, response.json()) == (202, {"cancelled": False})


@pytest.mark.parametrize("path", ["/v1/draft", "/v1/refine", "/v1/critique"])
async def test_an_allowance_that_is_too_small_is_refused_with_the_tokens_needed(running: Stack, path: str):
    """The answer is 422 before anything is computed; with the tokens needed the call succeeds."""
    fields = NEEDS.get(path, {})
    error = problem(await post(running, path, with_problem(**fields, allowance={"max_tokens": 1})), 422, "budget_too_small")
    assert error["limit"] == {"name": "max_tokens", "value": 1, "needed": error["needed"]}
    enough = with_problem(**fields, allowance={"max_tokens": error["needed"]})
    response = await post(running, path, enough)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
