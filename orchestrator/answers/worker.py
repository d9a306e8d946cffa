"""What runs in the worker process: it may hang or grow, and is killed then."""

import resource

MEMORY_BYTES = 2 * 2**30


def verify(a: str, b: str) -> bool:
    """Whether math-verify takes both for the same. Imported here, since it takes seconds and the service needs none of it."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    from math_verify import parse  # noqa: PLC0415
    from math_verify import verify as same  # noqa: PLC0415

    return bool(same(parse(f"${a}$", parsing_timeout=1), parse(f"${b}$", parsing_timeout=1), timeout_seconds=1))
