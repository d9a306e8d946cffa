"""`counterpoint doctor`: checks of the configuration and the services, each failure with advice."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import anyio
import httpx

import actor_service.dialects
import critic_service.dialects
from counterpoint.up import known_variables
from orchestrator.access import Keys
from orchestrator.settings import OrchestratorSettings
from services.engines.factory import check_model
from services.engines.models import ModelError
from services.errors import NotReady
from services.redis import RedisProbe
from services.settings import CONFIG_VARIABLE, ActorSettings, CriticSettings, RoleSettings, ServiceSettings, SettingsError

DIALECTS: dict[str, Mapping[str, object]] = {
    "actor": actor_service.dialects.DIALECTS,
    "critic": critic_service.dialects.DIALECTS,
}
OTHER_VARIABLES = (CONFIG_VARIABLE, "COUNTERPOINT_URL")
"""Variables that the command line reads, but no service."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one check; `advice` is None if it passed."""

    subject: str
    advice: str | None = None


def examine(url: str | None) -> list[CheckResult]:
    """Check the configuration, the models, and the services at `url` if given."""
    results = [_environment(), *(_settings(kind) for kind in (OrchestratorSettings, ActorSettings, CriticSettings))]
    if all(result.advice is None for result in results):
        results += [_model(kind.load()) for kind in (ActorSettings, CriticSettings)]
        results += [_keys(OrchestratorSettings.load()), _redis(OrchestratorSettings.load())]
    return results + ([_service(url)] if url else [])


def _environment() -> CheckResult:
    def check() -> None:
        known = {*known_variables(), *OTHER_VARIABLES}
        unknown = sorted(name for name in os.environ if name.startswith("COUNTERPOINT_") and name not in known)
        if unknown:
            raise SettingsError(f"nothing reads {', '.join(unknown)}")

    return _run(check, "environment", "correct its name, or remove it")


def _settings(kind: type[ServiceSettings]) -> CheckResult:
    def check() -> None:
        settings = kind.load()
        if isinstance(settings, RoleSettings):
            settings.choose_dialect(DIALECTS[settings.table])

    return _run(check, f"settings of the {kind.table}", "correct the variable")


def _model(settings: RoleSettings) -> CheckResult:
    advice = "run `make install`, or name a GGUF file"
    return _run(lambda: check_model(settings), f"model of the {settings.table}", advice)


def _keys(settings: OrchestratorSettings) -> CheckResult:
    if settings.keys_file is None:
        return CheckResult("keys: none, every client that reaches the orchestrator is served")
    path = settings.keys_file
    return _run(lambda: Keys.load(path), f"keys in {path}", "correct the file; `counterpoint key TENANT` prints an entry")


def _redis(settings: OrchestratorSettings) -> CheckResult:
    async def check() -> None:
        redis = RedisProbe(settings.redis_url)
        async with redis.running():
            await redis.check()

    if settings.redis_url is None:
        return CheckResult("jobs: in memory, lost when the orchestrator stops; COUNTERPOINT_REDIS_URL makes them durable")
    return _run(lambda: anyio.run(check), "redis", "start it, or correct COUNTERPOINT_REDIS_URL")


def _service(url: str) -> CheckResult:
    def check() -> None:
        response = httpx.get(f"{url}/readyz", timeout=5, trust_env=False)
        try:
            checks: dict[str, str] = response.json()["checks"]
        except (ValueError, LookupError, TypeError) as error:
            raise SettingsError(f"/readyz answers {response.status_code}, so this is not a Counterpoint service") from error
        failures = [f"{name} is {state}" for name, state in checks.items() if state != "ok"]
        if failures:
            raise SettingsError(", ".join(failures))

    return _run(check, f"service at {url}", "start it with `counterpoint up`, or read its log")


def _run(check: Callable[[], object], subject: str, advice: str) -> CheckResult:
    try:
        check()
    except (SettingsError, ModelError, NotReady, httpx.TransportError) as error:
        return CheckResult(subject, f"{error}: {advice}")
    return CheckResult(subject)
