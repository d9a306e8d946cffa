"""`counterpoint up --shared-engine`: one vLLM server for both roles, each with or without a LoRA adapter."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from counterpoint.supervisor import ProcessSpec
from services.settings import SettingsError

BASE = "base"
"""Name under which the server offers the model to a role without an adapter."""


@dataclass(frozen=True, slots=True)
class SharedEngine:
    """A vLLM server: `model` is a directory or a Hugging Face id, `actor_lora` and `critic_lora` are adapter directories.

    `arguments` are passed on to vLLM; `python` is the interpreter of an environment with vLLM.
    """

    model: str
    actor_lora: Path | None = None
    critic_lora: Path | None = None
    arguments: Sequence[str] = ()
    python: str = sys.executable

    def process(self, port: int) -> ProcessSpec:
        """Return the server's process, listening on loopback. Raises `SettingsError` for an adapter that does not exist."""
        command = [self.python, "-m", "vllm.entrypoints.openai.api_server", "--model", self.model]
        command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", BASE]
        command += ["--scheduling-policy", "priority", "--generation-config", "vllm", "--enable-prompt-tokens-details"]
        adapters = {role: path for role, path in self._adapters().items() if path is not None}
        for role, path in adapters.items():
            if not (path / "adapter_config.json").is_file():
                raise SettingsError(f"--{role}-lora {path}: it has no adapter_config.json")
        if adapters:
            command += ["--enable-lora", "--lora-modules", *(f"{role}={path}" for role, path in adapters.items())]
        return ProcessSpec("engine", "127.0.0.1", port, {}, command=(*command, *self.arguments))

    def settings(self, url: str) -> dict[str, str]:
        """Return the settings that make each role use the server at `url` under its own model name."""
        variables: dict[str, str] = {}
        for role, adapter in self._adapters().items():
            prefix = f"COUNTERPOINT_{role.upper()}"
            variables |= {f"{prefix}_ENGINE": "openai", f"{prefix}_BASE_URLS": url, f"{prefix}_MODEL": self.model}
            variables[f"{prefix}_SERVED_MODEL"] = role if adapter else BASE
            if (Path(self.model) / "tokenizer.json").is_file():
                variables[f"{prefix}_TOKENIZER"] = self.model
        return variables

    def _adapters(self) -> dict[str, Path | None]:
        return {"actor": self.actor_lora, "critic": self.critic_lora}
