"""Settings from the command line, environment, file and defaults, and the errors for invalid ones."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.settings import OrchestratorSettings
from orchestrator.strategies import NAMES
from services.settings import (
    CONFIG_VARIABLE,
    ActorSettings,
    CriticSettings,
    RoleSettings,
    ServiceSettings,
    SettingsError,
)

KINDS: list[type[ServiceSettings]] = [OrchestratorSettings, ActorSettings, CriticSettings]
SECRET = "hunter2"  # noqa: S105 - must not appear in any output

Environment = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: Environment) -> None:
    """Remove every setting from the tests' environment."""
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    for kind in KINDS:
        for name in kind.model_fields:
            monkeypatch.delenv(kind.variable(name), raising=False)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: Environment) -> Path:
    """Return the path of the settings file that the environment names. The file does not exist yet."""
    path = tmp_path / "counterpoint.toml"
    monkeypatch.setenv(CONFIG_VARIABLE, str(path))
    return path


@pytest.mark.parametrize(("kind", "port"), [(OrchestratorSettings, 8080), (ActorSettings, 8081), (CriticSettings, 8082)])
def test_defaults_listen_on_loopback_only(kind: type[ServiceSettings], port: int):
    """The default settings are valid and listen on loopback only."""
    loaded = kind.load()
    assert (loaded.host, loaded.port, loaded.log_format) == ("127.0.0.1", port, "json")


def test_precedence_is_command_line_environment_file_defaults(config: Path, monkeypatch: Environment):
    """The command line overrides the environment, which overrides the file, which overrides the defaults."""
    config.write_text('[actor]\nport = 1\nslots = 2\nhost = "file"\nmax_queue = 9\n', "utf-8")
    monkeypatch.setenv("COUNTERPOINT_ACTOR_PORT", "3")
    monkeypatch.setenv("COUNTERPOINT_ACTOR_SLOTS", "5")
    loaded = ActorSettings.load(port=7, host=None)
    assert (loaded.port, loaded.slots, loaded.host, loaded.max_queue) == (7, 5, "file", 9)
    assert loaded.threads == ActorSettings.model_fields["threads"].default


def test_each_service_has_its_own_prefix_and_table(config: Path, monkeypatch: Environment):
    """The settings of one service do not affect another."""
    config.write_text('[actor]\nslots = 2\n[critic]\nslots = 3\n[orchestrator]\nlog_level = "error"\n', "utf-8")
    monkeypatch.setenv("COUNTERPOINT_CRITIC_THREADS", "9")
    actor, critic = ActorSettings.load(), CriticSettings.load()
    assert (actor.slots, actor.threads, actor.log_level) == (2, 1, "info")
    assert (critic.slots, critic.threads, critic.log_level) == (3, 9, "info")
    assert OrchestratorSettings.load().log_level == "error"


@pytest.mark.parametrize(
    ("kind", "variable", "value"),
    [
        (ActorSettings, "COUNTERPOINT_ACTOR_SLOTS", "many"),
        (ActorSettings, "COUNTERPOINT_ACTOR_SLOTS", "0"),
        (ActorSettings, "COUNTERPOINT_ACTOR_SLOTS", ""),
        (ActorSettings, "COUNTERPOINT_ACTOR_ENGINE", "steam"),
        (ActorSettings, "COUNTERPOINT_ACTOR_PORT", "65536"),
        (ActorSettings, "COUNTERPOINT_ACTOR_PORT", "-1"),
        (CriticSettings, "COUNTERPOINT_CRITIC_SCRIPTED_GARBAGE_RATE", "1.5"),
        (OrchestratorSettings, "COUNTERPOINT_LOG_LEVEL", "loud"),
        (OrchestratorSettings, "COUNTERPOINT_MAX_BODY_BYTES", "12"),
        (OrchestratorSettings, "COUNTERPOINT_DEFAULT_MAX_SECONDS", "0"),
        (OrchestratorSettings, "COUNTERPOINT_DEFAULT_MAX_TOKENS", "-5"),
        (OrchestratorSettings, "COUNTERPOINT_DEFAULT_STRATEGY", "nonsense"),
        (OrchestratorSettings, "COUNTERPOINT_ACTOR_PRICE_PROMPT", "-0.1"),
    ],
)
def test_the_error_names_the_invalid_variable(
    kind: type[ServiceSettings], variable: str, value: str, monkeypatch: Environment
):
    """The error for an invalid value names its variable and the expected input."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"^{variable}: (Input should be|Value error, there is no strategy)"):
        kind.load()


def test_the_error_names_all_invalid_variables(monkeypatch: Environment):
    """One error names all invalid values."""
    monkeypatch.setenv("COUNTERPOINT_ACTOR_SLOTS", "many")
    monkeypatch.setenv("COUNTERPOINT_ACTOR_PORT", "none")
    with pytest.raises(SettingsError) as raised:
        ActorSettings.load()
    assert {part.split(":")[0] for part in str(raised.value).split("; ")} == {
        "COUNTERPOINT_ACTOR_SLOTS",
        "COUNTERPOINT_ACTOR_PORT",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[actor]\nslost = 4\n", "slost"),
        ("[actor]\nslots = 'many'\n", "COUNTERPOINT_ACTOR_SLOTS"),
        ("actor = 4\n", "not a table"),
        ("[actor\n", CONFIG_VARIABLE),
        ("[actor]\nslots = 1\nslots = 2\n", CONFIG_VARIABLE),
    ],
    ids=["a name", "a value", "a table", "not TOML", "twice"],
)
def test_a_mistake_in_the_file_is_reported(config: Path, text: str, message: str):
    """Unknown names, invalid values and invalid TOML in the file are errors."""
    config.write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=message):
        ActorSettings.load()


def test_an_unreadable_file_is_reported(config: Path):
    """The error for a file that is missing, not UTF-8 or a directory names the variable with its path."""
    with pytest.raises(SettingsError, match=f"{CONFIG_VARIABLE}.*{config.name}"):
        ActorSettings.load()
    config.write_bytes(b"\xff\xfe[actor]")
    with pytest.raises(SettingsError, match=CONFIG_VARIABLE):
        ActorSettings.load()
    config.unlink()
    config.mkdir()
    with pytest.raises(SettingsError, match=CONFIG_VARIABLE):
        ActorSettings.load()


def test_a_secret_is_not_shown(monkeypatch: Environment):
    """A secret appears neither in the printed settings nor in an error about another setting."""
    monkeypatch.setenv("COUNTERPOINT_CRITIC_NONCE_SECRET", SECRET)
    loaded = CriticSettings.load()
    assert loaded.nonce_secret is not None
    assert loaded.nonce_secret.get_secret_value() == SECRET
    assert SECRET not in f"{loaded} {loaded!r} {loaded.model_dump_json()}"
    monkeypatch.setenv("COUNTERPOINT_CRITIC_SLOTS", SECRET)
    with pytest.raises(SettingsError) as raised:
        CriticSettings.load()
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_has_an_environment_variable(kind: type[ServiceSettings], monkeypatch: Environment):
    """An invalid value in the variable that `variable()` returns is an error about that variable."""
    names = [name for name, field in kind.model_fields.items() if field.annotation is not str and name != "nonce_secret"]
    validated = [name for name in names if is_validated(kind, name, monkeypatch)]
    any_text = {"tokenizer", "dialect", "api_key", "served_model", "vllm_lora", "keys_file"}
    assert validated == [name for name in names if name not in any_text]


def is_validated(kind: type[ServiceSettings], name: str, monkeypatch: Environment) -> bool:
    """Return whether the error for an invalid value of a field begins with its variable."""
    with monkeypatch.context() as patch:
        patch.setenv(kind.variable(name), "[nonsense]")
        try:
            kind.load()
        except SettingsError as error:
            return str(error).startswith(f"{kind.variable(name)}: ")
    return False


@given(st.integers(1, 256), st.floats(0, 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_file_and_the_environment_are_equivalent(config: Path, slots: int, rate: float):
    """A value has the same meaning in the file and in the environment."""
    config.write_text(f"[actor]\nslots = {slots}\nscripted_failure_rate = {rate!r}\n", "utf-8")
    from_file = ActorSettings.load()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(CONFIG_VARIABLE)
        patch.setenv("COUNTERPOINT_ACTOR_SLOTS", str(slots))
        patch.setenv("COUNTERPOINT_ACTOR_SCRIPTED_FAILURE_RATE", repr(rate))
        assert ActorSettings.load() == from_file
    assert (from_file.slots, from_file.scripted_failure_rate) == (slots, rate)


@pytest.mark.parametrize(("model", "dialect", "expected"), [
    ("smollm2", None, "structured"),
    ("pocket-actor", None, "pocket"),
    ("pocket-actor", "structured", "structured"),
    ("smollm2", "mathcritique", "mathcritique"),
])  # fmt: skip
def test_the_default_dialect_depends_on_the_model(model: str, dialect: str | None, expected: str):
    """Without a `dialect` the pocket models use the pocket dialect, and other models the structured one."""
    assert RoleSettings.load(model=model, dialect=dialect).dialect_name == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_can_be_the_default(name: str):
    """Every strategy's name is valid as `default_strategy`."""
    assert OrchestratorSettings.load(default_strategy=name).default_strategy == name
