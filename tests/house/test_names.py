"""The language of the house: one meaning for each word, one name for each thing."""

import ast
import re
from pathlib import Path

from figures import ROOT, dialect_identifiers, docstrings, modules, repeated_classes

MODULES = modules()
SOURCE = [module for module in MODULES if module.is_source]
MAX_DIALECT = 150
"""Occurrences of *told*, *asked*, *said*, *heard* and *found* in identifiers; where they are left, people are meant."""

MIN_POLICY_WORDS = 15

DOCUMENTS = [ROOT / "CONTRIBUTING.md", ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_no_two_public_classes_share_a_name():
    """A reader who finds a class by its name has found the right one."""
    assert repeated_classes(SOURCE) == {}


def test_names_are_of_things_and_not_of_talk():
    """Values are named after what they hold, not after who told it."""
    names = [(str(module.path), name) for module in MODULES for name in dialect_identifiers(module)]
    assert len(names) < MAX_DIALECT, names


def test_docstrings_are_no_questions():
    """A docstring begins with an imperative or a noun phrase, never with a clause such as "What it does"."""
    texts = [(str(module.path), text) for module in MODULES for _, text in docstrings(module)]
    assert [entry for entry in texts if re.match(r"(What|Who|How|Whether)\b", entry[1])] == []


def test_every_module_of_the_orchestrator_is_a_term_of_the_vocabulary():
    """Its words stand in the first column of docs/vocabulary.md; a strategy's stand in docs/strategies.md."""
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs/vocabulary.md").read_text("utf-8"), re.MULTILINE)
    terms = {word.removesuffix("s") for row in rows for word in re.findall(r"[a-z]+", row)}
    strategies = re.findall(r"`([a-z_]+)`", (ROOT / "docs/strategies.md").read_text("utf-8"))
    terms |= {word for name in strategies for word in name.split("_")} | {"base"}
    paths = [module.path for module in SOURCE if module.path.parts[0] == "orchestrator" and module.path.stem != "__init__"]
    unknown = {str(path): word for path in paths for word in path.stem.split("_") if word.removesuffix("s") not in terms}
    assert unknown == {}
    assert len(rows) <= 40


def test_every_path_in_the_documentation_exists():
    """A file or folder that a page names is there."""
    missing: list[tuple[str, str]] = []
    for page in DOCUMENTS:
        for name in re.findall(r"`([\w.-]+/[\w./-]+)`", page.read_text("utf-8")):
            folder = name.split("/")[0]
            if (ROOT / folder).is_dir() and folder not in {".pocket-run", "runs"} and not (ROOT / name).exists():
                missing.append((page.name, name))
    assert missing == []


def test_every_package_states_its_policy():
    """The docstring of a package says what belongs into it, in a paragraph."""
    packages = [module for module in SOURCE if module.path.name == "__init__.py"]
    texts = {str(module.path): ast.get_docstring(module.tree) or "" for module in packages}
    assert {path: text for path, text in texts.items() if len(text.split()) < MIN_POLICY_WORDS} == {}


def test_no_module_is_named_with_a_gerund_of_people():
    """Modules are named with nouns of the field."""
    banned = {"asking", "judging", "telling", "watching", "writing", "fitting", "opening", "ending", "finding", "findings"}
    assert [str(module.path) for module in SOURCE if Path(module.path).stem in banned] == []
