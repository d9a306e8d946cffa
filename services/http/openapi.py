"""The API's description: errors are documented as what they are, problem objects."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.contracts.errors import ProblemDetails
from services.errors import CounterpointError
from services.http.error_responses import MEDIA_TYPE

Responses = dict[int | str, dict[str, Any]]

_REF = "#/components/schemas/{model}"
_FRAMEWORK = ("HTTPValidationError", "ValidationError")
"""Schemas of errors that no service ever answers with."""


def errors(*kinds: type[CounterpointError]) -> Responses:
    """The `responses` of a route that may answer with these errors."""
    found: Responses = {}
    for kind in kinds:
        codes = found.setdefault(kind.status, {"description": ""})
        codes["description"] = ", ".join(filter(None, (codes["description"], kind.code)))
    return found


def describe(app: FastAPI) -> None:
    """Make an application describe its errors as problem objects."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = described


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
                if int(status) >= 400 and not _own(response):  # noqa: PLR2004 - where errors begin
                    response["content"] = content
    return document


def _own(response: dict[str, Any]) -> bool:
    """Whether a route documented this body itself."""
    schemas = [str(part.get("schema", {}).get("$ref", "")) for part in response.get("content", {}).values()]
    return bool(schemas) and not any(schema.endswith(_FRAMEWORK) for schema in schemas)
