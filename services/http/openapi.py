"""The OpenAPI description of a service, with its errors as problem details."""

from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services import errors
from services.contracts.errors import ProblemDetails
from services.http.error_responses import MEDIA_TYPE

Responses = dict[int | str, dict[str, Any]]

_REF = "#/components/schemas/{model}"
_FRAMEWORK = ("HTTPValidationError", "ValidationError")
"""Schemas of error responses that no service sends."""

_REFUSALS = (errors.RequestTooLarge, errors.InvalidRequest, errors.BudgetTooSmall)
CALL_ERRORS = (*_REFUSALS, errors.EngineFailed, errors.Overloaded, errors.NotReady)
"""Errors of every route that runs a model."""


def responses(*kinds: type[errors.CounterpointError]) -> Responses:
    """Return the `responses` of a route that may respond with these errors."""
    documented: Responses = {}
    for kind in kinds:
        response = documented.setdefault(kind.status, {"description": kind.code})
        if kind.code not in response["description"]:
            response["description"] += f", {kind.code}"
    return documented


def describe(app: FastAPI) -> None:
    """Make an application describe its errors as problem details."""
    app.openapi = cache(lambda: _described(app))


def _described(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    problem = ProblemDetails.model_json_schema(ref_template=_REF, mode="serialization")
    schemas |= {**problem.pop("$defs", {}), "Problem": problem}
    for name in _FRAMEWORK:
        schemas.pop(name, None)
    content = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}}
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and not _is_documented(response):  # noqa: PLR2004 - where errors begin
                    response["content"] = content
    return document


def _is_documented(response: dict[str, Any]) -> bool:
    """Return whether the route itself documents the body of this response."""
    schemas = [str(part.get("schema", {}).get("$ref", "")) for part in response.get("content", {}).values()]
    return bool(schemas) and not any(schema.endswith(_FRAMEWORK) for schema in schemas)
