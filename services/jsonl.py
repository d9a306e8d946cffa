"""Files of JSON lines that are written as results come, by a process that may be ended at any moment."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, none where there is no file, without a line that was cut off by an interruption."""
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    for line in path.read_text("utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


@contextmanager
def appending(path: Path) -> Generator[TextIO]:
    """The file, open for more lines; one that was cut off is ended first, so that it does not swallow the next."""
    cut = path.exists() and path.read_bytes()[-1:] not in {b"", b"\n"}
    with path.open("a", encoding="utf-8") as file:
        if cut:
            file.write("\n")
        yield file
