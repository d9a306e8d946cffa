"""The error tree: its documentation matches the classes."""

import inspect
import re

import pytest

from services import errors
from services.contracts.errors import Limit
from services.http.error_responses import error_of

_LINE = re.compile(r"^((?:\|? +)*)(\+-- )?(\w+) +(\d{3}) (\w+)$", re.MULTILINE)
_INDENT = 4

Node = tuple[str, str, int, str]


def documented_tree() -> set[Node]:
    """Parse the tree in the module's docstring into the name, parent, status and code of each class."""
    nodes: set[Node] = set()
    path: list[str] = []
    for indent, branch, name, status, code in _LINE.findall(errors.__doc__ or ""):
        depth = len(indent + branch) // _INDENT
        path = [*path[:depth], name]
        nodes.add((name, path[-2] if depth else "Exception", int(status), code))
    return nodes


def actual_tree() -> set[Node]:
    """Return the name, parent, status and code of each class of the module."""
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.CounterpointError)]
    return {(kind.__name__, kind.__bases__[0].__name__, kind.status, kind.code) for kind in kinds}


def test_the_documented_tree_matches_the_classes() -> None:
    """The docstring shows every class below its parent, with its status and code."""
    assert documented_tree() == actual_tree()


@pytest.mark.parametrize("kind", errors.CounterpointError.__subclasses__(), ids=lambda kind: kind.code)
def test_an_error_survives_its_problem_details(kind: type[errors.CounterpointError]) -> None:
    """An error that is sent as problem details is restored with its class and fields."""
    limit = Limit(name="calls", value=3, needed=4)
    copy = error_of(kind("a sentence", limit=limit, retry_after=0.5).problem())
    assert (type(copy), copy.detail, copy.limit, copy.retry_after) == (kind, "a sentence", limit, 0.5)


def test_codes_are_distinct() -> None:
    """Every class directly below the root has its own code, which identifies it on the wire."""
    codes = [kind.code for kind in errors.CounterpointError.__subclasses__()]
    assert len(codes) == len(set(codes))
