"""The OpenAI-compatible face with the command `llm`, which `make test-clients` installs in an environment of its own."""

import os
from pathlib import Path

import anyio
import pytest
from stack import Stack, stack

pytestmark = pytest.mark.anyio

LLM = Path(__file__).parents[2] / ".venv-clients" / "bin" / "llm"
if not LLM.exists():
    pytest.skip(f"{LLM} cannot be found; `make test-clients` installs it", allow_module_level=True)

MODELS = """\
- model_id: counterpoint
  model_name: counterpoint
  api_base: "{url}/v1"
"""
"""`extra-openai-models.yaml`: all that `llm` must be told."""


async def asked(running: Stack, folder: Path, *words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `llm`, in a user folder of its own."""
    await anyio.Path(folder / "extra-openai-models.yaml").write_text(MODELS.format(url=running.urls[0]), "utf-8")
    with anyio.fail_after(60):
        done = await anyio.run_process([str(LLM), *words], check=False, env={**os.environ, "LLM_USER_PATH": str(folder)})
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("more", [[], ["--no-stream"]], ids=["stream", "whole"])
async def test_it_prints_the_solution(tmp_path: Path, more: list[str]):
    """Streamed or not, the same text; the dialogue is not shown."""
    async with stack() as running:
        code, written, errors = await asked(running, tmp_path, "-m", "counterpoint", *more, "What is 2 + 3?")
        assert (code, errors) == (0, "")
        assert written.strip() == "Step 1: 2 + 3 = 5\nThe answer is \\boxed{5}."
        assert running.critic.generations > 0


async def test_it_shows_the_account(tmp_path: Path):
    """`-u` prints what the engines counted."""
    async with stack() as running:
        _, _, errors = await asked(running, tmp_path, "-m", "counterpoint", "-u", "What is 2 + 3?")
        prompt = running.actor.totals.prompt_tokens + running.critic.totals.prompt_tokens
        completion = running.actor.totals.completion_tokens + running.critic.totals.completion_tokens
        assert errors.startswith(f"Token usage: {prompt:,} input, {completion:,} output")


async def test_a_refusal_is_its_error(tmp_path: Path):
    """The sentence of the service, and exit code 1."""
    async with stack() as running:
        refused = await asked(running, tmp_path, "-m", "counterpoint", "-o", "stop", "x" * 10_000, "What is 2 + 3?")
        assert refused[0] == 1
        assert "422" in refused[2]
        assert running.generations == 0
