"""`counterpoint doctor`: is everything as it should be, and if not, what to do."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import anyio
import httpx

from counterpoint.up import known_variables
from orchestrator.access import Keys
from orchestrator.settings import OrchestratorSettings
from services.engines.gguf_file import read_gguf
from services.engines.models import ModelError
from services.engines.opening import embedded_options
from services.engines.tokenizer import load_tokenizer
from services.errors import NotReady
from services.redis import RedisProbe
from services.settings import (
    CONFIG_VARIABLE,
    ActorSettings,
    CriticSettings,
    RoleSettings,
    ServiceSettings,
    SettingsError,
)

OTHER_VARIABLES = (CONFIG_VARIABLE, "COUNTERPOINT_URL")
"""Read by the command line and not by a service."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` is set where it is not well."""

    what: str
    advice: str | None = None


def examine(url: str | None) -> list[Finding]:
    """Look at the configuration, the models, and the services at `url` if given."""
    findings = [_environment(), *(_settings(kind) for kind in (OrchestratorSettings, ActorSettings, CriticSettings))]
    if all(finding.advice is None for finding in findings):
        findings += [_model(kind.load()) for kind in (ActorSettings, CriticSettings)]
        findings += [_keys(OrchestratorSettings.load()), _redis(OrchestratorSettings.load())]
    return findings + ([_service(url)] if url else [])


def _environment() -> Finding:
    def look() -> None:
        known = {*known_variables(), *OTHER_VARIABLES}
        unknown = sorted(name for name in os.environ if name.startswith("COUNTERPOINT_") and name not in known)
        if unknown:
            raise SettingsError(f"nothing reads {', '.join(unknown)}")

    return _looked("environment", look, "correct its name, or remove it")


def _settings(kind: type[ServiceSettings]) -> Finding:
    return _looked(f"settings of the {kind.table}", kind.load, "correct the variable")


def _model(settings: RoleSettings) -> Finding:
    def look() -> None:
        if settings.engine == "embedded":
            options = embedded_options(settings)
            read_gguf(options.model_path)
            load_tokenizer(options.tokenizer_path or options.model_path)

    return _looked(f"model of the {settings.table}", look, "run `make install`, or name a GGUF file")


def _keys(settings: OrchestratorSettings) -> Finding:
    if settings.keys_file is None:
        return Finding("keys: none, everybody who can reach the orchestrator may ask")
    path = settings.keys_file
    return _looked(f"keys in {path}", lambda: Keys.load(path), "correct the file; `counterpoint key TENANT` prints an entry")


def _redis(settings: OrchestratorSettings) -> Finding:
    async def look() -> None:
        redis = RedisProbe(settings.redis_url)
        async with redis.running():
            await redis.check()

    if settings.redis_url is None:
        return Finding("jobs: in memory, they end with the orchestrator; COUNTERPOINT_REDIS_URL makes them durable")
    return _looked("redis", lambda: anyio.run(look), "start it, or correct COUNTERPOINT_REDIS_URL")


def _service(url: str) -> Finding:
    def look() -> None:
        answer = httpx.get(f"{url}/readyz", timeout=5, trust_env=False)
        try:
            checks: dict[str, str] = answer.json()["checks"]
        except (ValueError, LookupError, TypeError) as error:
            raise SettingsError(f"/readyz answers {answer.status_code}, not as a service of Counterpoint does") from error
        unwell = [f"{name} is {state}" for name, state in checks.items() if state != "ok"]
        if unwell:
            raise SettingsError(", ".join(unwell))

    return _looked(f"service at {url}", look, "start it with `counterpoint up`, or look into its log")


def _looked(what: str, look: Callable[[], object], advice: str) -> Finding:
    try:
        look()
    except (SettingsError, ModelError, NotReady, httpx.TransportError) as error:
        return Finding(what, f"{error}: {advice}")
    return Finding(what)
