"""`counterpoint up --shared-engine`: one vLLM server for both roles, which differ by a LoRA adapter or not at all."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from counterpoint.supervisor import Plan
from services.settings import SettingsError

BASE = "base"
"""The model's name on the server, for a role without an adapter."""


@dataclass(frozen=True, slots=True)
class SharedEngine:
    """What the server runs: a directory or a hub's id, an adapter's directory for each role, more arguments of vLLM's.

    `python` is the interpreter that has vLLM.
    """

    model: str
    actor_lora: Path | None = None
    critic_lora: Path | None = None
    arguments: Sequence[str] = ()
    python: str = sys.executable

    def plan(self, port: int) -> Plan:
        """The server's process, on loopback. Raises `SettingsError` for an adapter that does not exist."""
        command = [self.python, "-m", "vllm.entrypoints.openai.api_server", "--model", self.model]
        command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", BASE]
        command += ["--scheduling-policy", "priority", "--generation-config", "vllm", "--enable-prompt-tokens-details"]
        adapters = {role: path for role, path in self._adapters().items() if path is not None}
        for role, path in adapters.items():
            if not (path / "adapter_config.json").is_file():
                raise SettingsError(f"--{role}-lora {path}: there is no adapter_config.json in it")
        if adapters:
            command += ["--enable-lora", "--lora-modules", *(f"{role}={path}" for role, path in adapters.items())]
        return Plan("engine", "127.0.0.1", port, {}, command=(*command, *self.arguments))

    def settings(self, url: str) -> dict[str, str]:
        """What makes each role speak to the server under its own model name."""
        found: dict[str, str] = {}
        for role, adapter in self._adapters().items():
            prefix = f"COUNTERPOINT_{role.upper()}"
            found |= {f"{prefix}_ENGINE": "openai", f"{prefix}_BASE_URLS": url, f"{prefix}_MODEL": self.model}
            found[f"{prefix}_SERVED_MODEL"] = role if adapter else BASE
            if (Path(self.model) / "tokenizer.json").is_file():
                found[f"{prefix}_TOKENIZER"] = self.model
        return found

    def _adapters(self) -> dict[str, Path | None]:
        return {"actor": self.actor_lora, "critic": self.critic_lora}
