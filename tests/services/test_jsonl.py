"""JSON Lines files that survive an interruption of the process at any time."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from anyio.lowlevel import checkpoint

from services.jsonl import ResumableRow, appending, read, resume


@dataclass(frozen=True)
class Number:
    """An item of the input."""

    id: int


class Square(ResumableRow, frozen=True):
    """A row of the output. It failed if it has no `square`."""

    square: int | None = None

    @property
    def done(self) -> bool:
        """True if there is a square."""
        return self.square is not None


@pytest.mark.parametrize("before", [None, "", '{"id": 1}\n', '{"id": 1}\n{"id": 2, "ans', '{"id": 1}'])
def test_a_truncated_line_is_skipped_and_does_not_corrupt_the_next(tmp_path: Path, before: str | None):
    """Complete lines are kept, and the next line that is appended is complete."""
    path = tmp_path / "rows.jsonl"
    if before is not None:
        path.write_text(before, "utf-8")
    rows = read(path, Square)
    assert rows == ([Square(id=1)] if before else [])
    with appending(path) as file:
        file.write('{"id": 3}\n')
    assert read(path, Square) == [*rows, Square(id=3)]


@pytest.mark.anyio
async def test_a_run_computes_the_missing_rows(tmp_path: Path):
    """Finished rows are kept, failed rows are computed again, and progress starts at the number of kept rows."""
    path, made, progress = tmp_path / "rows.jsonl", list[int](), list[tuple[int, int]]()
    path.write_text('{"id": 1, "square": 1}\n{"id": 2}\n{"id": 9, "square": 81}\n{"id": 3, "squ', "utf-8")

    async def square(number: Number) -> Square:
        made.append(number.id)
        return Square(id=number.id, square=number.id**2)

    numbers = [Number(k) for k in (1, 2, 3)]
    rows = await resume(path, Square, numbers, square, lambda done, total: progress.append((done, total)), 1)
    assert rows == [Square(id=k, square=k**2) for k in (1, 2, 3)]
    assert made == [2, 3]
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert path.read_text("utf-8").splitlines()[-2:] == ['{"id": 2, "square": 4}', '{"id": 3, "square": 9}']


@pytest.mark.anyio
async def test_a_run_respects_its_concurrency_limit(tmp_path: Path):
    """Items beyond the concurrency wait. The file's folder is created."""
    running, most = 0, 0

    async def square(number: Number) -> Square:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await checkpoint()
        running -= 1
        return Square(id=number.id, square=number.id**2)

    numbers = [Number(k) for k in range(6)]
    await resume(tmp_path / "new" / "rows.jsonl", Square, numbers, square, lambda _done, _total: None, 2)
    assert most == 2
