"""Project rules that no other tool checks."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [ROOT / name for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split("\n") if name]
PYTHON = [path for path in FILES if path.suffix == ".py" and path.exists()]


def test_no_file_is_longer_than_300_lines():
    """Longer files should be split."""
    assert [str(path) for path in PYTHON if len(path.read_text("utf-8").splitlines()) > 300] == []


@pytest.mark.parametrize("word", ["unittest" + r"\.mock", "create" + r"_task\(", r"asyncio\." + "gather"])
def test_no_mocks_and_no_bare_tasks(word: str):
    """Concurrency uses anyio task groups; tests use real components."""
    assert [str(path) for path in PYTHON if re.search(word, path.read_text("utf-8"))] == []


def test_every_direct_dependency_is_locked_with_a_hash():
    """Each dependency in pyproject.toml is in requirements.lock, and torch is not."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    block = text[text.index("dependencies = [") : text.index("[project.optional-dependencies]")]
    lock = (ROOT / "requirements.lock").read_text("utf-8").lower()
    names = re.findall(r'^\s+"([A-Za-z0-9_.-]+)', block, re.MULTILINE)
    assert [name for name in names if f"\n{name.lower()}" not in f"\n{lock}"] == []
    assert "--hash=sha256:" in lock
    assert "\ntorch" not in lock


USED_AS = {
    "import-linter": "lint-imports",
    "opentelemetry-api": "opentelemetry.trace",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry-sdk": "opentelemetry.sdk",
    "pydocket": "docket",
    "pyyaml": "yaml",
}
"""Packages that are used under another name than their own."""
IMPLICIT = {"httptools", "uvloop"}
"""Packages that uvicorn uses where they are installed."""


def test_every_dependency_is_used():
    """Each one is imported, named in a setting of its user, or run by the Makefile."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    groups = {**project["project"]["optional-dependencies"], "dev": project["dependency-groups"]["dev"]}
    listed = [*project["project"]["dependencies"], *(entry for group in groups.values() for entry in group)]
    names = {re.split(r"[\[><=;]", entry)[0] for entry in listed} - IMPLICIT
    used = "\n".join(path.read_text("utf-8") for path in [*PYTHON, ROOT / "Makefile"] if path != Path(__file__))
    assert [name for name in names if USED_AS.get(name, name.replace("-", "_")) not in used] == []
