"""JSON Lines files that outlive an interruption: rows are appended as they are made, and a run that is repeated resumes."""

import json
from collections.abc import Awaitable, Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO, TypeVar

import anyio
from pydantic import BaseModel

CONCURRENCY = 4
"""Rows made at a time; enough to keep the two engines of a laptop busy."""


class ResumableRow(BaseModel, frozen=True):
    """Base of a file's rows; `id` is that of the item the row was made of."""

    id: str | int

    @property
    def done(self) -> bool:
        """True if the row is final; the next run makes all others again."""
        return True


class Identified(Protocol):
    """An item with an id that no other item of its run has."""

    @property
    def id(self) -> Hashable: ...  # noqa: D102 - a field


ItemT = TypeVar("ItemT", bound=Identified)
RowT = TypeVar("RowT", bound=ResumableRow)


def read(path: Path, row_type: type[RowT]) -> list[RowT]:
    """Return a file's rows, none if there is no file; a line that an interruption cut off is skipped.

    Raises `ValidationError` for a line of JSON that is not a `row_type`.
    """
    if not path.exists():
        return []
    rows: list[RowT] = []
    for line in path.read_text("utf-8").split("\n"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows.append(row_type.model_validate(row))
    return rows


@contextmanager
def appending(path: Path) -> Generator[TextIO]:
    """Open a file to append lines; a last line that was cut off is terminated first, so that the next one starts afresh."""
    cut_off = path.exists() and path.read_bytes()[-1:] not in {b"", b"\n"}
    with path.open("a", encoding="utf-8") as file:
        if cut_off:
            file.write("\n")
        yield file


async def resume(
    path: Path,
    row_type: type[RowT],
    items: Sequence[ItemT],
    make_row: Callable[[ItemT], Awaitable[RowT]],
    on_progress: Callable[[int, int], None],
    concurrency: int = CONCURRENCY,
) -> list[RowT]:
    """Return a row for each item, in order: those that `path` holds, and the others made and appended to it.

    At most `concurrency` rows are made at a time, and each is flushed as a line of its own. `on_progress` is called with the
    number of rows so far and the number of items, first before any row is made. The file's rows of other items stay.
    """
    rows: dict[Hashable, RowT] = {row.id: row for row in read(path, row_type) if row.done}
    missing = [item for item in items if item.id not in rows]
    made = len(items) - len(missing)
    limiter = anyio.CapacityLimiter(concurrency)
    on_progress(made, len(items))
    path.parent.mkdir(parents=True, exist_ok=True)
    with appending(path) as file:

        async def run_one(item: ItemT) -> None:
            nonlocal made
            async with limiter:
                row = await make_row(item)
            rows[item.id] = row
            file.write(f"{json.dumps(row.model_dump(mode='json', exclude_unset=True))}\n")
            file.flush()
            made += 1
            on_progress(made, len(items))

        async with anyio.create_task_group() as group:
            for item in missing:
                group.start_soon(run_one, item)
    return [rows[item.id] for item in items]
