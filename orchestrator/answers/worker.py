"""What runs in the worker process: it may hang or grow, and is killed then."""

import resource
from typing import Any

MEMORY_BYTES = 2 * 2**30


def verify(a: str, b: str) -> bool:
    """Whether math-verify takes both for the same; imported here, since it takes seconds and the service needs none."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    from math_verify import parse  # noqa: PLC0415
    from math_verify import verify as same  # noqa: PLC0415

    left: list[Any] = parse(f"${a}$", parsing_timeout=1)
    right: list[Any] = parse(f"${b}$", parsing_timeout=1)
    return bool(same(left, right, timeout_seconds=1))
