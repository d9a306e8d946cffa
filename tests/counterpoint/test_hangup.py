"""Clients that disconnect, with three real processes on a real model."""

import pytest

from benchmarks.hangup import SETTINGS, During, Mode, idle_after
from counterpoint.stack import run_stack

pytestmark = [pytest.mark.anyio, pytest.mark.embedded]

SOON = 3.0
"""Seconds; far less than the abandoned work would still take. `make bench` measures the actual time."""


async def test_a_disconnect_frees_both_engines():
    """Streamed or not, during generation or during the prefill of a long critique prompt."""
    kinds: list[tuple[During, Mode]] = [
        ("writing", "stream"),
        ("writing", "plain"),
        ("prefill", "stream"),
        ("prefill", "plain"),
    ]
    async with run_stack(SETTINGS) as running:
        for number, (during, mode) in enumerate(kinds):
            assert await idle_after(running, during, mode, number) < SOON
