"""Settings: environment first, then the TOML file that `COUNTERPOINT_CONFIG` names, then defaults.

Each service has a class with its own prefix (`COUNTERPOINT_ACTOR_`, ...) and its own table in the file (`[actor]`, ...).
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

DialectT = TypeVar("DialectT")

CONFIG_VARIABLE = "COUNTERPOINT_CONFIG"

Port = Annotated[int, Field(ge=0, le=65_535)]
Address = Annotated[str, Field(pattern=r"^https?://[^/\s]+(/[^\s]*)?$")]


def _addresses(value: object) -> object:
    return [part.strip().rstrip("/") for part in value.split(",")] if isinstance(value, str) else value


class SettingsError(Exception):
    """A setting is missing or invalid; the message names its variable."""


class ServiceSettings(BaseSettings):
    """The settings that all services have."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    table: ClassVar[str] = ""

    host: str = "127.0.0.1"
    port: Port = 0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    shutdown_seconds: Annotated[int, Field(ge=0)] = 5
    traces: Literal["off", "otlp"] = "off"
    """`otlp` sends spans to the address in `OTEL_EXPORTER_OTLP_ENDPOINT`."""

    @classmethod
    def load(cls, **overrides: Any) -> Self:  # noqa: ANN401 - checked by the model
        """Read the settings; `overrides` (from the command line) take precedence. Raises `SettingsError`."""
        try:
            return cls(**{name: value for name, value in overrides.items() if value is not None})
        except ValidationError as error:
            raise SettingsError(cls._explain(error)) from error
        except (OSError, ValueError) as error:
            raise SettingsError(f"{CONFIG_VARIABLE}: {error}") from error

    @classmethod
    def variable(cls, field: str) -> str:
        """Return the environment variable of a field."""
        alias = cls.model_fields[field].validation_alias
        return alias if isinstance(alias, str) else f"{cls.model_config.get('env_prefix', '')}{field}".upper()

    @classmethod
    def _explain(cls, error: ValidationError) -> str:
        entries = error.errors(include_input=False, include_url=False)
        names = [str(entry["loc"][0]) if entry["loc"] else "" for entry in entries]
        variables = [cls.variable(name) if name in cls.model_fields else name for name in names]
        return "; ".join(f"{variable}: {entry['msg']}" for variable, entry in zip(variables, entries, strict=True))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the command line first, then the environment, then the TOML file."""
        del dotenv_settings, file_secret_settings
        path = os.environ.get(CONFIG_VARIABLE)
        if not path:
            return (init_settings, env_settings)
        if not Path(path).is_file():
            raise SettingsError(f"{CONFIG_VARIABLE}: there is no file {path}")
        return (init_settings, env_settings, InitSettingsSource(settings_cls, cls._table(Path(path))))

    @classmethod
    def _table(cls, path: Path) -> dict[str, Any]:
        """Return the service's table of the file. Raises `SettingsError` for an unknown name: a typing mistake."""
        table: Any = tomllib.loads(path.read_text("utf-8")).get(cls.table, {})
        if not isinstance(table, dict):
            raise SettingsError(f"{CONFIG_VARIABLE}: {cls.table} is not a table")
        values: dict[str, Any] = table  # pyright: ignore[reportUnknownVariableType] - any TOML
        unknown = sorted(set(values) - set(cls.model_fields))
        if unknown:
            raise SettingsError(f"{CONFIG_VARIABLE}: [{cls.table}] has no setting {', '.join(unknown)}")
        return values


class RoleSettings(ServiceSettings):
    """The settings of an actor or a critic."""

    engine: Literal["embedded", "vllm", "openai", "scripted"] = "embedded"
    model: str
    tokenizer: str | None = None
    dialect: str | None = None
    """None = that of the model: `pocket` for the pocket pair, `structured` for any other."""
    context_length: Annotated[int, Field(ge=128)] = 2048
    slots: Annotated[int, Field(ge=1, le=256)] = 4
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    max_queue: Annotated[int, Field(ge=0)] = 256
    base_urls: Annotated[tuple[Address, ...], NoDecode, BeforeValidator(_addresses)] = ()
    """The servers of the `openai` engine, separated by commas; several are replicas."""
    api_key: SecretStr | None = None
    served_model: str | None = None
    """The name of the model on those servers; None = `model`."""
    vllm_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    vllm_gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    vllm_max_num_seqs: Annotated[int, Field(ge=1)] = 256
    vllm_block_size: Annotated[int, Field(ge=1)] | None = None
    vllm_enforce_eager: bool = False
    vllm_lora: str | None = None
    """The directory of a LoRA adapter."""
    scripted_first_token_seconds: Annotated[float, Field(ge=0)] = 0.0
    scripted_token_seconds: Annotated[float, Field(ge=0)] = 0.0
    scripted_failure_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    scripted_garbage_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    scripted_error_rate: Annotated[float, Field(ge=0, le=1)] = 0.3

    @property
    def dialect_name(self) -> str:
        """The name of the dialect, chosen by the model where it is not set."""
        pocket = self.engine != "scripted" and self.model.startswith("pocket-")
        return self.dialect or ("pocket" if pocket else "structured")

    def choose_dialect(self, dialects: Mapping[str, DialectT]) -> DialectT:
        """Return the entry for the dialect of these settings. Raises `SettingsError` if the role has no such dialect."""
        name = self.dialect_name
        if name not in dialects:
            raise SettingsError(f"{self.variable('dialect')}: there is no dialect {name}; there are {', '.join(dialects)}")
        return dialects[name]


class ActorSettings(RoleSettings):
    """The settings of the actor."""

    model_config = SettingsConfigDict(env_prefix="COUNTERPOINT_ACTOR_")
    table: ClassVar[str] = "actor"

    model: str = "pocket-actor"
    port: Port = 8081


class CriticSettings(RoleSettings):
    """The settings of the critic."""

    model_config = SettingsConfigDict(env_prefix="COUNTERPOINT_CRITIC_")
    table: ClassVar[str] = "critic"

    model: str = "pocket-critic"
    port: Port = 8082
    nonce_secret: SecretStr | None = None
    """Key of the nonces around the actor's text; None = a random one for each process."""
