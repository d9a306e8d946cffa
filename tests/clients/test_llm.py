"""The OpenAI-compatible API with the command `llm`, which `make test-clients` installs in a separate environment."""

import os
from pathlib import Path

import anyio
import pytest
from stack import Stack, stack

pytestmark = pytest.mark.anyio

LLM = Path(__file__).parents[2] / ".venv-clients" / "bin" / "llm"
if not LLM.exists():
    pytest.skip(f"{LLM} is missing; `make test-clients` installs it", allow_module_level=True)

MODELS = """\
- model_id: counterpoint
  model_name: counterpoint
  api_base: "{url}/v1"
"""
"""`extra-openai-models.yaml`, the only configuration that `llm` needs."""


async def run_llm(running: Stack, folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run `llm` with `folder` as its user folder; return its exit code, output and errors."""
    await anyio.Path(folder / "extra-openai-models.yaml").write_text(MODELS.format(url=running.urls[0]), "utf-8")
    with anyio.fail_after(60):
        done = await anyio.run_process([str(LLM), *arguments], check=False, env={**os.environ, "LLM_USER_PATH": str(folder)})
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("more", [[], ["--no-stream"]], ids=["stream", "whole"])
async def test_it_prints_the_solution(tmp_path: Path, more: list[str]):
    """The same text with and without streaming, without the reasoning."""
    async with stack() as running:
        code, written, errors = await run_llm(running, tmp_path, "-m", "counterpoint", *more, "What is 2 + 3?")
        assert (code, errors) == (0, "")
        assert written.strip() == "Step 1: 2 + 3 = 5\nThe answer is \\boxed{5}."
        assert running.critic.generations > 0


async def test_it_shows_the_usage(tmp_path: Path):
    """`-u` prints the counts of the engines."""
    async with stack() as running:
        _, _, errors = await run_llm(running, tmp_path, "-m", "counterpoint", "-u", "What is 2 + 3?")
        prompt = running.actor.totals.prompt_tokens + running.critic.totals.prompt_tokens
        completion = running.actor.totals.completion_tokens + running.critic.totals.completion_tokens
        assert errors.startswith(f"Token usage: {prompt:,} input, {completion:,} output")


async def test_an_error_is_reported(tmp_path: Path):
    """The error of the service is shown, and the exit code is 1."""
    async with stack() as running:
        result = await run_llm(running, tmp_path, "-m", "counterpoint", "-o", "stop", "x" * 10_000, "What is 2 + 3?")
        assert result[0] == 1
        assert "422" in result[2]
        assert running.generations == 0
