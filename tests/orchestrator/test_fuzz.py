"""Fuzzing of the orchestrator against its OpenAPI description: schemathesis with three real processes."""

import re
import subprocess
import sys
from collections.abc import Generator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import checks as general
from schemathesis.specs.openapi import checks

from counterpoint.supervisor import free_port

openapi: Any = checks
server_error: Any = vars(general)["not_a_server_error"]
"""`Any`, since the library's own types are incomplete."""
CHECKS = [
    openapi.content_type_conformance,
    openapi.negative_data_rejection,
    openapi.response_schema_conformance,
    openapi.status_code_conformance,
]


@pytest.fixture(scope="module")
def api() -> Generator[Any]:
    """Start an orchestrator over scripted engines; yield its OpenAPI description."""
    command = [sys.executable, "-m", "counterpoint", "up", "--models", "scripted", "--port", str(free_port())]
    quiet = ["--set", "LOG_LEVEL=error", "--set", "DEFAULT_MAX_SECONDS=5"]
    with subprocess.Popen([*command, *quiet], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        ready = re.fullmatch(r"ready (.*)\n", process.stdout.readline())
        assert ready
        yield schemathesis.openapi.from_url(f"{ready.group(1)}/openapi.json")
        process.terminate()


ERROR = {"message", "type", "param", "code"}
"""The fields of an error under /v1."""
TOO_LARGE = 413
"""A status that rejects a body, though the library does not count it as one."""
MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
BODIES = {"/solve", "/v1/chat/completions", "/jobs"}
OPERATIONS = [
    "POST /solve",
    "GET /strategies",
    "GET /v1/models",
    "GET /v1/models/{model}",
    "POST /v1/chat/completions",
    "POST /jobs",
    "GET /jobs/{job}",
    "GET /jobs/{job}/events",
    "DELETE /jobs/{job}",
    "POST /jobs/{job}/answer-now",
    "GET /healthz",
    "GET /readyz",
]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_every_response_is_documented(api: Any, operation: str, mode: Any):
    """Valid and invalid requests get a documented status and body; invalid ones are refused, and none gets a 500."""
    method, path = operation.split()
    cases = api[path][method].as_strategy(generation_mode=mode)

    @settings(
        max_examples=150 if path in BODIES else 10 if "{" in path else 3,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.filter_too_much],
    )
    @given(cases)
    def check(case: Any) -> None:
        response = case.call(timeout=30)
        assert response.status_code != 500, response.text
        expected = [rule for rule in CHECKS if response.status_code != TOO_LARGE or rule != openapi.negative_data_rejection]
        case.validate_response(response, checks=expected, excluded_checks=[server_error])
        if response.status_code >= 400 and path != "/readyz":
            problem = response.json()
            fields = {"type", "title", "status", "detail", "code"}
            assert set(problem["error"]) == ERROR if path.startswith("/v1/") else fields <= set(problem)

    try:
        check()
    except Unsatisfiable:
        assert path not in BODIES  # a route without parameters has no invalid requests


def test_every_route_is_fuzzed(api: Any):
    """The list of operations is that of the OpenAPI description."""
    described = {f"{method.upper()} {path}" for path, methods in api.raw_schema["paths"].items() for method in methods}
    assert described == set(OPERATIONS)
