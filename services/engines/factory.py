"""The engine that a role's settings name: the only module that knows every concrete engine.

An engine is imported when it is chosen, since no service needs the libraries of more than one.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from services.engines.models import ModelError, model_name, model_path, parameters_in, tokenizer_path
from services.engines.protocol import Engine
from services.settings import RoleSettings, SettingsError

if TYPE_CHECKING:
    from services.engines.llama import EmbeddedOptions
    from services.engines.scripted import ScriptedOptions
    from services.engines.vllm import VllmOptions


async def open_engine(settings: RoleSettings) -> Engine:
    """Load the engine. Raises `SettingsError` where its model or its library cannot be used."""
    openers = {"scripted": _scripted, "vllm": _vllm, "openai": _openai, "embedded": _embedded}
    try:
        return await openers[settings.engine](settings)
    except ModelError as error:
        raise SettingsError(f"{type(settings).variable('model')}: {error}") from error
    except ImportError as error:
        raise SettingsError(f"{type(settings).variable('engine')}: {settings.engine} is not installed ({error})") from error


def check_model(settings: RoleSettings) -> None:
    """Read the headers and the tokenizer of the embedded engine's model. Raises `ModelError`; blocks for a second."""
    if settings.engine == "embedded":
        from services.engines.tokenizers import load_tokenizer, read_gguf  # noqa: PLC0415 - see above

        options = embedded_options(settings)
        read_gguf(options.model_path)
        load_tokenizer(options.tokenizer_path or options.model_path)


async def _scripted(settings: RoleSettings) -> Engine:
    from services.engines.scripted import ScriptedEngine  # noqa: PLC0415 - see above

    return ScriptedEngine(scripted_options(settings))


async def _embedded(settings: RoleSettings) -> Engine:
    from services.engines.llama import EmbeddedEngine  # noqa: PLC0415 - see above

    return await EmbeddedEngine.load(embedded_options(settings))


async def _vllm(settings: RoleSettings) -> Engine:
    from services.engines.vllm.engine import VllmEngine  # noqa: PLC0415 - see above

    return await VllmEngine.load(vllm_options(settings), parameters_in(Path(model_name(settings.model))))


async def _openai(settings: RoleSettings) -> Engine:
    from services.engines.openai import OpenAIEngine, OpenAIOptions  # noqa: PLC0415 - see above
    from services.engines.tokenizers import load_tokenizer  # noqa: PLC0415 - see above

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
    """Return which model vLLM loads, and how. Raises `ModelError`."""
    from services.engines.vllm import VllmOptions  # noqa: PLC0415 - see above

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
    """Return which files the embedded engine loads, and how. Raises `ModelError`."""
    from services.engines.llama import EmbeddedOptions  # noqa: PLC0415 - see above

    return EmbeddedOptions(
        model_path=model_path(settings.model),
        name=Path(settings.model).stem,
        tokenizer_path=Path(settings.tokenizer) if settings.tokenizer else tokenizer_path(settings.model),
        context_length=settings.context_length,
        slots=settings.slots,
        threads=settings.threads,
    )


def scripted_options(settings: RoleSettings) -> "ScriptedOptions":
    """Return the behaviour of the scripted engine."""
    from services.engines.scripted import Plausible, ScriptedOptions  # noqa: PLC0415 - see above

    return ScriptedOptions(
        script=Plausible(error_rate=settings.scripted_error_rate),
        first_token_seconds=settings.scripted_first_token_seconds,
        token_seconds=settings.scripted_token_seconds,
        failure_rate=settings.scripted_failure_rate,
        garbage_rate=settings.scripted_garbage_rate,
        context_length=settings.context_length,
    )
