"""`counterpoint doctor` reports what is wrong and how to correct it."""

from pathlib import Path

import pytest
from anyio import to_thread
from fastapi import FastAPI
from stack import NOWHERE, stack
from typer.testing import CliRunner

from counterpoint.cli import app
from counterpoint.doctor import CheckResult, examine
from services.testing import serve


def run_doctor(*arguments: str) -> tuple[int, list[str]]:
    """Run the command and return its exit code and its lines."""
    result = CliRunner().invoke(app, ["doctor", *arguments])
    assert "Traceback" not in result.output
    return result.exit_code, result.output.splitlines()


def test_the_defaults_pass():
    """The default settings pass: exit code 0 and a line for each check."""
    code, lines = run_doctor()
    assert code == 0
    assert lines == [
        "ok   environment",
        "ok   settings of the orchestrator",
        "ok   settings of the actor",
        "ok   settings of the critic",
        "ok   model of the actor",
        "ok   model of the critic",
        "ok   keys: none, every client that reaches the orchestrator is served",
        "ok   jobs: in memory, lost when the orchestrator stops; COUNTERPOINT_REDIS_URL makes them durable",
    ]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("COUNTERPOINT_ACTOR_SLOTS", "none", "COUNTERPOINT_ACTOR_SLOTS: Input should be a valid integer"),
        (
            "COUNTERPOINT_CRITIC_DIALECT",
            "latin",
            "COUNTERPOINT_CRITIC_DIALECT: there is no dialect latin; there are structured",
        ),
        ("COUNTERPOINT_MAX_IN_FLIGHT", "0", "COUNTERPOINT_MAX_IN_FLIGHT: Input should be greater than or equal to 1"),
        ("COUNTERPOINT_ACTOR_SLOT", "3", "nothing reads COUNTERPOINT_ACTOR_SLOT: correct its name"),
        ("COUNTERPOINT_CONFIG", "nowhere.toml", "there is no file nowhere.toml"),
        ("COUNTERPOINT_CRITIC_MODEL", "nowhere.gguf", "there is no model 'nowhere.gguf'"),
        ("COUNTERPOINT_CRITIC_MODEL", __file__, "not a readable GGUF file"),
        ("COUNTERPOINT_ACTOR_TOKENIZER", "nowhere", "nowhere holds no tokenizer"),
        ("COUNTERPOINT_KEYS_FILE", "nowhere.toml", "`counterpoint key TENANT` prints an entry"),
        ("COUNTERPOINT_REDIS_URL", "localhost", "COUNTERPOINT_REDIS_URL: String should match pattern"),
        ("COUNTERPOINT_REDIS_URL", "redis://127.0.0.1:9/0", "start it, or correct COUNTERPOINT_REDIS_URL"),
    ],
)
def test_a_bad_setting_is_named(variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch):
    """Exit code 1 and a line that names the setting and the reason, without the value of a secret."""
    monkeypatch.setenv(variable, value)
    code, lines = run_doctor()
    assert code == 1
    failures = [line for line in lines if line.startswith("FAIL ")]
    assert failures
    assert all(message in line for line in failures)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[actor\nslots = 2\n", "COUNTERPOINT_CONFIG: "),
        ("actor = 3\n", "COUNTERPOINT_CONFIG: actor is not a table"),
        ("[actor]\nslotz = 2\n", "COUNTERPOINT_CONFIG: [actor] has no setting slotz"),
        ("[actor]\nslots = 'two'\n", "COUNTERPOINT_ACTOR_SLOTS: Input should be a valid integer"),
        ("[actor]\nnonce_secret = 'hunter2'\n", "COUNTERPOINT_CONFIG: [actor] has no setting nonce_secret"),
        ("\ufeff\x00", "COUNTERPOINT_CONFIG: "),
    ],
)
def test_a_bad_file_is_named(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Malformed TOML, a section that is not a table, an unknown or invalid setting; values are not repeated."""
    path = tmp_path / "counterpoint.toml"
    path.write_text(text, "utf-8")
    monkeypatch.setenv("COUNTERPOINT_CONFIG", str(path))
    code, lines = run_doctor()
    assert code == 1
    assert [line for line in lines if line.startswith("FAIL settings of the actor: ") and message in line]
    assert "hunter2" not in "".join(lines)


def test_the_configuration_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The file has a table for each service; environment variables override it."""
    path = tmp_path / "counterpoint.toml"
    path.write_text("[actor]\nslots = 2\n[critic]\nslots = 'many'\n[orchestrator]\nmax_in_flight = 9\n", "utf-8")
    monkeypatch.setenv("COUNTERPOINT_CONFIG", str(path))
    assert run_doctor()[0] == 1
    monkeypatch.setenv("COUNTERPOINT_CRITIC_SLOTS", "3")
    assert run_doctor()[0] == 0


async def service_at(url: str) -> CheckResult:
    """Return the result of the check of the services at an address."""
    return (await to_thread.run_sync(examine, url))[-1]


@pytest.mark.anyio
async def test_running_services_pass():
    """Their check has no advice."""
    async with stack() as running:
        assert await service_at(running.urls[0]) == CheckResult(f"service at {running.urls[0]}")


@pytest.mark.anyio
@pytest.mark.parametrize(("without", "message"), [("actor", "actor is down"), ("critic", "critic is degraded")])
async def test_a_dead_service_is_named(without: str, message: str):
    """Both a required service and an optional one."""
    async with stack(without=without) as running:
        advice = (await service_at(running.urls[0])).advice
    assert advice
    assert advice.startswith(message)
    assert "read its log" in advice


@pytest.mark.anyio
async def test_nothing_there_names_the_command_that_starts_it():
    """An address that nothing listens on."""
    advice = (await service_at(NOWHERE)).advice
    assert advice
    assert "start it with `counterpoint up`" in advice


@pytest.mark.anyio
async def test_another_server_is_recognised():
    """An HTTP server whose `/readyz` is not that of Counterpoint."""
    async with serve(FastAPI()) as url:
        advice = (await service_at(url)).advice
    assert advice
    assert "/readyz answers 404, so this is not a Counterpoint service" in advice
