"""Figures of the source tree: `python tests/house/figures.py [ROOT]` prints them, the tests of this folder hold them."""

import ast
import re
import statistics
import subprocess
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHORT_FILE = 40
DIALECT = frozenset({"told", "asked", "said", "heard", "found"})
"""Words about people that once named values and functions."""

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
NAMED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Module:
    """A Python file of the project: its path from the root, its text and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def is_source(self) -> bool:
        """True for a file that is not itself a test."""
        return self.path.parts[0] != "tests"


def modules(root: Path = ROOT) -> list[Module]:
    """Return every Python file that git tracks below `root`."""
    listed = subprocess.check_output(["git", "ls-files", "*.py"], cwd=root, text=True).split()
    paths = [Path(name) for name in listed if (root / name).exists()]
    texts = [(path, (root / path).read_text("utf-8")) for path in paths]
    return [Module(path, text, ast.parse(text)) for path, text in texts]


def identifiers(module: Module) -> Iterator[str]:
    """Yield every name in the code of a module, in its order, once per occurrence."""
    lines = iter(module.text.splitlines(keepends=True))
    for token in tokenize.generate_tokens(lambda: next(lines, "")):
        if token.type == tokenize.NAME:
            yield token.string


def dialect_identifiers(module: Module) -> list[str]:
    """Return the identifiers of a module that have a word of `DIALECT` as a part."""
    return [name for name in identifiers(module) if DIALECT & set(re.split(r"_|(?<=[a-z])(?=[A-Z])", name.lower()))]


def docstrings(module: Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield the docstrings of a module, its classes and its functions, and the texts below its constants."""
    for node in ast.walk(module.tree):
        if isinstance(node, NAMED):
            text = ast.get_docstring(node)
            if text:
                yield node, text
            for before, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
                    value = after.value
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        yield before, value.value


def function_lengths(module: Module) -> list[int]:
    """Return the lines of every function of a module, without its decorators and its docstring."""
    return [_length(node) for node in ast.walk(module.tree) if isinstance(node, FunctionNode)]


def _length(node: FunctionNode) -> int:
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


def repeated_classes(source: list[Module]) -> dict[str, int]:
    """Return the public classes whose name another module defines too."""
    names = Counter(
        node.name
        for module in source
        for node in module.tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    return {name: count for name, count in names.items() if count > 1}


def report(root: Path) -> str:
    """Return the figures of a tree, a line each."""
    every = modules(root)
    source = [module for module in every if module.is_source]
    lengths = sorted(length for module in source for length in function_lengths(module))
    lines = [(module, len(module.text.splitlines())) for module in source]
    contracts = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layered = [contract for contract in contracts if contract["type"] == "layers"]
    questions = [text for module in every for _, text in docstrings(module) if re.match(r"What\b", text)]
    figures = {
        "modules": len(source),
        "lines of source": sum(count for _, count in lines),
        "lines of tests": sum(len(module.text.splitlines()) for module in every if not module.is_source),
        "import contracts": f"{len(contracts)}, {len(layered)} of layers, {sum(len(c['layers']) for c in layered)} layers",
        "exhaustive layers": sum(contract.get("exhaustive", False) for contract in layered),
        "function length, median": statistics.median(lengths),
        "function length, p95": lengths[int(len(lengths) * 0.95)],
        "largest file": max(count for _, count in lines),
        f"files under {SHORT_FILE} lines": sum(count < SHORT_FILE for _, count in lines),
        "public classes named twice": len(repeated_classes(source)),
        "told, asked, said, heard, found in identifiers": sum(len(dialect_identifiers(module)) for module in every),
        'docstrings that begin with "What"': len(questions),
    }
    return "\n".join(f"{name:<48}{value}" for name, value in figures.items())


if __name__ == "__main__":
    sys.stdout.write(report(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT) + "\n")
