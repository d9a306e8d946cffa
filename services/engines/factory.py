"""The engine that a role's settings name; the only module that knows every concrete engine.

An engine is imported when it is chosen, since no service needs the libraries of more than one.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from services.engines.models import ModelError, model_name, model_path, parameters_in, tokenizer_path
from services.engines.protocol import Engine
from services.settings import RoleSettings, SettingsError

if TYPE_CHECKING:
    from services.engines.llama import EmbeddedOptions
    from services.engines.vllm import VllmOptions


async def open_engine(settings: RoleSettings) -> Engine:
    """Load the engine. Raises `SettingsError` if its model or its library cannot be used."""
    try:
        return await _open(settings)
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


async def _open(settings: RoleSettings) -> Engine:
    match settings.engine:
        case "embedded":
            from services.engines.llama import EmbeddedEngine  # noqa: PLC0415 - see above

            return await EmbeddedEngine.load(embedded_options(settings))
        case "vllm":
            from services.engines.vllm.engine import VllmEngine  # noqa: PLC0415 - see above

            return await VllmEngine.load(vllm_options(settings), parameters_in(Path(model_name(settings.model))))
        case "openai":
            return await _openai(settings)
        case "scripted":
            from services.engines.scripted import Plausible, ScriptedEngine, ScriptedOptions  # noqa: PLC0415 - see above

            fields = _prefixed(settings, "scripted_")
            script = Plausible(error_rate=fields.pop("error_rate"))
            return ScriptedEngine(ScriptedOptions(script=script, context_length=settings.context_length, **fields))


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
    """Return the options of the vLLM engine. Raises `ModelError`."""
    from services.engines.vllm import VllmOptions  # noqa: PLC0415 - see above

    return VllmOptions(
        model=model_name(settings.model),
        tokenizer_path=Path(settings.tokenizer) if settings.tokenizer else None,
        context_length=settings.context_length,
        **_prefixed(settings, "vllm_"),
    )


def embedded_options(settings: RoleSettings) -> "EmbeddedOptions":
    """Return the options of the embedded engine. Raises `ModelError`."""
    from services.engines.llama import EmbeddedOptions  # noqa: PLC0415 - see above

    return EmbeddedOptions(
        model_path=model_path(settings.model),
        name=Path(settings.model).stem,
        tokenizer_path=Path(settings.tokenizer) if settings.tokenizer else tokenizer_path(settings.model),
        context_length=settings.context_length,
        slots=settings.slots,
        threads=settings.threads,
    )


def _prefixed(settings: RoleSettings, prefix: str) -> dict[str, Any]:
    """Return the settings that belong to one engine, which its options name without the prefix."""
    return {name.removeprefix(prefix): value for name, value in settings if name.startswith(prefix)}
