"""`counterpoint doctor`: is everything as it should be, and if not, what to do."""

from collections.abc import Callable
from dataclasses import dataclass

import httpx

from orchestrator.settings import OrchestratorSettings
from services.engines.models import ModelError, model_path
from services.settings import ActorSettings, CriticSettings, RoleSettings, ServiceSettings, SettingsError


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` is set where it is not well."""

    what: str
    advice: str | None = None


def examine(url: str | None) -> list[Finding]:
    """Look at the configuration, the models, and the services at `url` if given."""
    findings = [_settings(kind) for kind in (OrchestratorSettings, ActorSettings, CriticSettings)]
    if all(finding.advice is None for finding in findings):
        findings += [_model(kind.load()) for kind in (ActorSettings, CriticSettings)]
    return findings + ([_service(url)] if url else [])


def _settings(kind: type[ServiceSettings]) -> Finding:
    return _looked(f"settings of the {kind.table}", kind.load, "correct the variable")


def _model(settings: RoleSettings) -> Finding:
    def look() -> None:
        if settings.engine == "embedded":
            model_path(settings.model)

    return _looked(f"model of the {settings.table}", look, "run `make install`, or name a GGUF file")


def _service(url: str) -> Finding:
    def look() -> None:
        answer = httpx.get(f"{url}/readyz", timeout=5)
        if not answer.is_success:
            raise SettingsError(f"checks: {answer.json()['checks']}")

    return _looked(f"service at {url}", look, "start it with `counterpoint up`, or look into its log")


def _looked(what: str, look: Callable[[], object], advice: str) -> Finding:
    try:
        look()
    except (SettingsError, ModelError, httpx.TransportError) as error:
        return Finding(what, f"{error}: {advice}")
    return Finding(what)
