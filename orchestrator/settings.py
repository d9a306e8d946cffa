"""The settings of the orchestrator."""

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import SettingsConfigDict

from orchestrator.strategies import NAMES
from services.settings import Port, ServiceSettings

LOOPBACK = {"127.0.0.1", "::1", "localhost"}

Cost = Annotated[float, Field(ge=0)]


class OrchestratorSettings(ServiceSettings):
    """Settings from `COUNTERPOINT_*` and the table `[orchestrator]`. Prices are per token."""

    model_config = SettingsConfigDict(env_prefix="COUNTERPOINT_")
    table: ClassVar[str] = "orchestrator"

    port: Port = 8080
    actor_url: str = "http://127.0.0.1:8081"
    critic_url: str = "http://127.0.0.1:8082"
    redis_url: Annotated[str, Field(pattern=r"^(redis|rediss|unix)://")] | None = None
    job_ttl_seconds: Annotated[float, Field(ge=1)] = 24 * 3_600.0
    job_lease_seconds: Annotated[float, Field(ge=0.5)] = 3.0
    default_strategy: str = "refine"
    default_max_tokens: Annotated[int, Field(ge=1)] = 64_000
    default_max_calls: Annotated[int, Field(ge=1)] = 256
    default_max_seconds: Annotated[float, Field(gt=0)] = 300.0
    default_completion_tokens: Annotated[int, Field(ge=1)] = 1024
    default_temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    critique_tokens: Annotated[int, Field(ge=16)] = 512
    max_in_flight: Annotated[int, Field(ge=1)] = 512
    max_waiting: Annotated[int, Field(ge=0)] = 512
    max_waiting_seconds: Annotated[float, Field(gt=0)] = 10.0
    keys_file: Path | None = None
    allow_anonymous: bool = False
    actor_price_prompt: Cost = 0.0
    actor_price_completion: Cost = 0.0
    critic_price_prompt: Cost = 0.0
    critic_price_completion: Cost = 0.0

    @field_validator("default_strategy")
    @classmethod
    def _is_a_strategy(cls, name: str) -> str:
        if name not in NAMES:
            raise PydanticCustomError("literal_error", "Input should be one of {names}", {"names": ", ".join(NAMES)})
        return name

    @model_validator(mode="after")
    def _not_public_by_accident(self) -> Self:
        if self.host not in LOOPBACK and self.keys_file is None and not self.allow_anonymous:
            remedy = "set COUNTERPOINT_KEYS_FILE, or COUNTERPOINT_ALLOW_ANONYMOUS=true to serve without keys"
            raise ValueError(f"{self.host} can be reached from other machines: {remedy}")
        return self
