"""The services, with a vLLM engine that records its requests: `python -m benchmarks.recording_vllm actor --port N`.

Each request becomes a JSON line `{"ids", "n", "scored", "completions"}` in the file that the variable `RECORD` names, in the
order in which the requests started.
"""

import json
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio

from benchmarks.role_app import role_app
from counterpoint.cli import app as command
from services.engines.factory import vllm_options
from services.engines.protocol import Engine
from services.http import server
from services.settings import ActorSettings, CriticSettings, RoleSettings

RECORD = "COUNTERPOINT_BENCHMARK_RECORD"


async def engine(settings: RoleSettings) -> Engine:
    """Load a vLLM engine that records its requests."""
    from services.engines.vllm.engine import VllmEngine  # noqa: PLC0415 - imports vLLM
    from services.engines.vllm.library import Vllm, VllmOutput, VllmRequest  # noqa: PLC0415 - as above

    path = Path(os.environ[RECORD])
    lines: list[dict[str, object]] = []

    class Recorded(Vllm):
        async def stream(self, request: VllmRequest, request_id: str) -> AsyncGenerator[VllmOutput]:
            n = request.generation.n
            completions: list[list[int]] = [[] for _ in range(n)]
            lines.append({"ids": list(request.ids), "n": n, "scored": request.prompt_logprobs, "completions": completions})
            async for output in super().stream(request, request_id):
                for sample in output.samples:
                    completions[sample.index] += sample.ids
                yield output
            await anyio.Path(path).write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")

    return await VllmEngine.load(vllm_options(settings), kind=Recorded)


if __name__ == "__main__":
    name, port = sys.argv[1], int(sys.argv[sys.argv.index("--port") + 1])
    if name == "orchestrator":
        command()
    else:
        settings = (ActorSettings if name == "actor" else CriticSettings).load(port=port)
        server.run(role_app(settings, engine), settings)
