"""The process that compares answers symbolically: `python -m orchestrator.answers.worker`.

For each pair it reads one JSON line and writes one word. It imports math-verify once, which takes seconds, and forks for
every pair. Text from a model is parsed only in such a fork. A fork that computes without end is killed at its time limit or
on SIGUSR1, and its memory is limited; the next pair gets a new fork within milliseconds.
"""

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, cast

MEMORY_BYTES = 2 * 2**30
"""Address space of a fork; importing takes about a quarter of it."""

CODES = ("same", "different")
"""The result of a fork by its exit code; any other code means `unknown`."""

WARM_UP_PAIRS = (
    ("x+1", "1+x"),
    ("x^2", "x^3"),
    ("(1,2)", "[1,2]"),
    ("\\{1,2\\}", "2\\sqrt{2}"),
    ("x=5", "\\frac{\\pi}{2}"),
    ("one", "two"),
)
"""Harmless pairs; comparing them makes the library build its parser and fill its caches before the first fork."""

_ENDED, _ABANDON = signal.SIGCHLD, signal.SIGUSR1


def serve() -> None:
    """Serve until standard input closes: write `ready`, then one word for each `[a, b, seconds]`."""
    logging.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {_ENDED, _ABANDON})
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    same = _load()
    _reply("ready")
    for line in sys.stdin:
        a, b, seconds = cast("tuple[str, str, float]", json.loads(line))
        _reply(_compare_in_fork(lambda a=a, b=b: same(a, b), seconds))


def _load() -> Callable[[str, str], bool]:
    import math_verify  # noqa: PLC0415 - takes seconds, and which an import of this module must not

    library = cast("Any", math_verify)

    def same(a: str, b: str) -> bool:
        left, right = (library.parse(f"${text}$", parsing_timeout=None) for text in (a, b))
        if not left or not right:
            raise ValueError("not a mathematical expression")
        return any(library.verify(x, y, timeout_seconds=None) for x, y in ((left, right), (right, left)))

    for a, b in WARM_UP_PAIRS:
        same(a, b)
    return same


def _compare_in_fork(same: Callable[[], bool], seconds: float) -> str:
    while signal.sigtimedwait({_ENDED, _ABANDON}, 0):
        pass  # discard signals that arrived too late for the previous pair
    child = os.fork()
    if child == 0:
        _exit_with_result(same)
    ended = signal.sigtimedwait({_ENDED, _ABANDON}, seconds)
    if ended is None or ended.si_signo != _ENDED:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return CODES[code] if code in range(len(CODES)) else "unknown"


def _exit_with_result(same: Callable[[], bool]) -> None:
    code = len(CODES)
    try:
        code = 0 if same() else 1
    finally:
        os._exit(code)


def _reply(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve()
