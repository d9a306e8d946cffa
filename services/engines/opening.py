"""Opens the engine that a role's settings name: the one place that knows every concrete engine.

Libraries of engines are imported when their engine is chosen: no service needs more than one of them.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from services.engines.models import ModelError, model_name, model_path, parameters_in, tokenizer_path
from services.engines.protocol import Engine
from services.engines.scripted import ScriptedEngine, ScriptedOptions
from services.engines.scripts import Plausible
from services.engines.tokenizer import load_tokenizer
from services.settings import RoleSettings, SettingsError

if TYPE_CHECKING:
    from services.engines.embedded import EmbeddedOptions
    from services.engines.vllm_engine import VllmOptions


async def open_engine(settings: RoleSettings) -> Engine:
    """Load the engine. Raises `SettingsError` where its model or its library cannot be used."""
    try:
        match settings.engine:
            case "scripted":
                return ScriptedEngine(scripted_options(settings))
            case "vllm":
                return await _vllm(settings)
            case "openai":
                return await _openai(settings)
            case "embedded":
                return await _embedded(settings)
    except ModelError as error:
        raise SettingsError(f"{type(settings).variable('model')}: {error}") from error
    except ImportError as error:
        raise SettingsError(f"{type(settings).variable('engine')}: {settings.engine} is not installed ({error})") from error


async def _embedded(settings: RoleSettings) -> Engine:
    from services.engines.embedded import EmbeddedEngine  # noqa: PLC0415 - see above

    return await EmbeddedEngine.load(embedded_options(settings))


async def _vllm(settings: RoleSettings) -> Engine:
    from services.engines.vllm_engine import VllmEngine  # noqa: PLC0415 - see above

    return await VllmEngine.load(vllm_options(settings), parameters_in(Path(model_name(settings.model))))


async def _openai(settings: RoleSettings) -> Engine:
    from services.engines.openai_engine import OpenAIEngine, OpenAIOptions  # noqa: PLC0415 - see above

    if not settings.base_urls:
        raise SettingsError(f"{type(settings).variable('base_urls')}: the openai engine needs the address of a server")
    path = Path(settings.tokenizer) if settings.tokenizer else tokenizer_path(settings.model)
    options = OpenAIOptions(
        base_urls=settings.base_urls,
        model=settings.served_model or settings.model,
        context_length=settings.context_length,
        api_key=settings.api_key.get_secret_value() if settings.api_key else None,
    )
    return OpenAIEngine(options, await to_thread.run_sync(load_tokenizer, path) if path else None)


def vllm_options(settings: RoleSettings) -> "VllmOptions":
    """Which model vLLM loads, and how. Raises `ModelError`."""
    from services.engines.vllm_engine import VllmOptions  # noqa: PLC0415 - see above

    return VllmOptions(
        model=model_name(settings.model),
        tokenizer_path=Path(settings.tokenizer) if settings.tokenizer else None,
        context_length=settings.context_length,
        dtype=settings.vllm_dtype,
        gpu_memory_utilization=settings.vllm_gpu_memory_utilization,
        max_num_seqs=settings.vllm_max_num_seqs,
        block_size=settings.vllm_block_size,
        enforce_eager=settings.vllm_enforce_eager,
        lora=settings.vllm_lora,
    )


def embedded_options(settings: RoleSettings) -> "EmbeddedOptions":
    """Which files the embedded engine loads, and how. Raises `ModelError`."""
    from services.engines.embedded import EmbeddedOptions  # noqa: PLC0415 - see above

    return EmbeddedOptions(
        model_path=model_path(settings.model),
        name=Path(settings.model).stem,
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
