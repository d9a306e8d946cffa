"""A client that hangs up, through three real processes on a real model."""

import pytest

from benchmarks.hangup import SETTINGS, During, Mode, idle_after
from counterpoint.stack import stack

pytestmark = [pytest.mark.anyio, pytest.mark.embedded]

SOON = 3.0
"""Far below what the work that is abandoned would still take; how fast it is in truth, `make bench` says."""


async def test_hanging_up_frees_both_engines_whatever_they_are_doing():
    """Streaming or plain, in the middle of writing or of reading a long critique prompt."""
    kinds: list[tuple[During, Mode]] = [
        ("writing", "stream"),
        ("writing", "plain"),
        ("prefill", "stream"),
        ("prefill", "plain"),
    ]
    async with stack(SETTINGS) as running:
        for number, (during, mode) in enumerate(kinds):
            assert await idle_after(running, during, mode, number) < SOON
