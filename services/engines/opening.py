"""Opens the engine that a role's settings name: the one place that knows every concrete engine."""

from pathlib import Path

from services.engines.embedded import EmbeddedEngine, EmbeddedOptions
from services.engines.models import ModelError, model_path, tokenizer_path
from services.engines.protocol import Engine
from services.engines.scripted import ScriptedEngine, ScriptedOptions
from services.engines.scripts import Plausible
from services.settings import RoleSettings, SettingsError


async def open_engine(settings: RoleSettings) -> Engine:
    """Load the engine. Raises `SettingsError` where its model cannot be used."""
    if settings.engine == "scripted":
        return ScriptedEngine(scripted_options(settings))
    try:
        return await EmbeddedEngine.load(embedded_options(settings))
    except ModelError as error:
        raise SettingsError(f"{type(settings).variable('model')}: {error}") from error


def embedded_options(settings: RoleSettings) -> EmbeddedOptions:
    """Which files the embedded engine loads, and how. Raises `ModelError`."""
    return EmbeddedOptions(
        model_path=model_path(settings.model),
        tokenizer_path=Path(settings.tokenizer) if settings.tokenizer else tokenizer_path(settings.model),
        context_length=settings.context_length,
        slots=settings.slots,
        threads=settings.threads,
    )


def scripted_options(settings: RoleSettings) -> ScriptedOptions:
    """The scripted engine's knobs out of the settings."""
    return ScriptedOptions(
        script=Plausible(error_rate=settings.scripted_error_rate),
        first_token_seconds=settings.scripted_first_token_seconds,
        token_seconds=settings.scripted_token_seconds,
        failure_rate=settings.scripted_failure_rate,
        garbage_rate=settings.scripted_garbage_rate,
        context_length=settings.context_length,
    )
