"""Settings: command line, environment, file, defaults, and mistakes that are named."""

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
SECRET = "hunter2"  # noqa: S105 - looked for in what is shown

Environment = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: Environment) -> None:
    """The tests' own environment says nothing."""
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    for kind in KINDS:
        for name in kind.model_fields:
            monkeypatch.delenv(kind.variable(name), raising=False)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: Environment) -> Path:
    """The file that the environment names."""
    path = tmp_path / "counterpoint.toml"
    monkeypatch.setenv(CONFIG_VARIABLE, str(path))
    return path


@pytest.mark.parametrize(("kind", "port"), [(OrchestratorSettings, 8080), (ActorSettings, 8081), (CriticSettings, 8082)])
def test_defaults_serve_on_this_machine_only(kind: type[ServiceSettings], port: int):
    """Nothing has to be set, and nobody else can connect."""
    loaded = kind.load()
    assert (loaded.host, loaded.port, loaded.log_format) == ("127.0.0.1", port, "json")


def test_the_command_line_comes_before_the_environment_before_the_file_before_defaults(
    config: Path, monkeypatch: Environment
):
    """Each source decides what the ones before it leave open."""
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
def test_a_bad_value_is_named(kind: type[ServiceSettings], variable: str, value: str, monkeypatch: Environment):
    """By its variable, with what would be right."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"^{variable}: (Input should be|Value error, there is no strategy)"):
        kind.load()


def test_every_bad_value_is_named_at_once(monkeypatch: Environment):
    """Not one a start."""
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
def test_a_mistake_in_the_file_is_named(config: Path, text: str, message: str):
    """A name that is no setting is a typing mistake, not a silence."""
    config.write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=message):
        ActorSettings.load()


def test_a_file_that_is_not_there_or_not_text_is_named(config: Path):
    """The variable that names it is named."""
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
    """Neither printed with the settings, nor in the error about something else."""
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
def test_every_setting_has_a_variable_that_sets_it(kind: type[ServiceSettings], monkeypatch: Environment):
    """`variable()` names what is read: a value that fits none of them is an error about that variable."""
    names = [name for name, field in kind.model_fields.items() if field.annotation is not str and name != "nonce_secret"]
    read = [name for name in names if field_refuses(kind, name, monkeypatch)]
    any_text = {"tokenizer", "dialect", "api_key", "served_model", "vllm_lora", "keys_file"}
    assert read == [name for name in names if name not in any_text]


def field_refuses(kind: type[ServiceSettings], name: str, monkeypatch: Environment) -> bool:
    """Return whether an invalid value of a field is refused by the name of its variable."""
    with monkeypatch.context() as patch:
        patch.setenv(kind.variable(name), "[nonsense]")
        try:
            kind.load()
        except SettingsError as error:
            return str(error).startswith(f"{kind.variable(name)}: ")
    return False


@given(st.integers(1, 256), st.floats(0, 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_file_and_the_environment_say_the_same(config: Path, slots: int, rate: float):
    """A value means the same wherever it is written."""
    config.write_text(f"[actor]\nslots = {slots}\nscripted_failure_rate = {rate!r}\n", "utf-8")
    from_file = ActorSettings.load()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(CONFIG_VARIABLE)
        patch.setenv("COUNTERPOINT_ACTOR_SLOTS", str(slots))
        patch.setenv("COUNTERPOINT_ACTOR_SCRIPTED_FAILURE_RATE", repr(rate))
        assert ActorSettings.load() == from_file
    assert (from_file.slots, from_file.scripted_failure_rate) == (slots, rate)


@pytest.mark.parametrize(("model", "dialect", "spoken"), [
    ("smollm2", None, "structured"),
    ("pocket-actor", None, "pocket"),
    ("pocket-actor", "structured", "structured"),
    ("smollm2", "mathcritique", "mathcritique"),
])  # fmt: skip
def test_the_dialect_is_the_models_own_unless_it_is_set(model: str, dialect: str | None, spoken: str):
    """The pocket pair speaks its own."""
    assert RoleSettings.load(model=model, dialect=dialect).dialect_name == spoken


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_can_be_the_default(name: str):
    """The settings accept the name of each one."""
    assert OrchestratorSettings.load(default_strategy=name).default_strategy == name
