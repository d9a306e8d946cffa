"""An OpenAI-compatible server over a scripted engine, with the variations and failures of real servers."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from services.contracts.messages import Message
from services.contracts.sampling import Sampling
from services.contracts.usage import Usage
from services.engines.protocol import Delta, Generation, Prompt
from services.engines.scripted import ScriptedEngine, ScriptedOptions

KNOWN = {"model", "messages", "max_tokens", "temperature", "top_p", "seed", "n", "stream", "stream_options", "stop"}


@dataclass
class Server:
    """The server's behaviour. `breaks_after`: chunks until a stream breaks off; `status`: of streamed calls."""

    engine: ScriptedEngine = field(default_factory=lambda: ScriptedEngine(ScriptedOptions(token_seconds=0.001)))
    understands: frozenset[str] = frozenset({"logprobs", "top_logprobs"})
    reports_usage: bool = True
    draws: bool = True
    thinks: str | None = None
    status: int = 200
    retry_after: str | None = None
    breaks_after: int | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    sessions: list[str] = field(default_factory=list[str])

    def app(self) -> FastAPI:
        """Create the application."""
        app = FastAPI()

        @app.get("/v1/models")
        async def models() -> dict[str, Any]:
            return {"data": [{"id": "scripted", "max_model_len": 4096}]}

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            body = await request.json()
            if set(body) - KNOWN - self.understands:
                return JSONResponse({"error": {"message": "unknown parameter"}}, 400)
            if self.status != 200 and body.get("stream"):
                headers = {"retry-after": self.retry_after} if self.retry_after else {}
                return JSONResponse({"error": {"message": "no"}}, self.status, headers)
            self.bodies.append(body)
            self.sessions.append(request.headers.get("x-session-id", ""))
            return (
                StreamingResponse(self.stream(body), media_type="text/event-stream")
                if body.get("stream")
                else await self.whole(body)
            )

        return app

    def generation(self, body: dict[str, Any]) -> Generation:
        """Convert a request body to a `Generation`."""
        messages = tuple(Message(role=m["role"], content=m["content"]) for m in body["messages"])
        fields = {k: body[k] for k in ("temperature", "top_p", "seed", "max_tokens", "stop") if k in body}
        n = body.get("n", 1) if self.draws else 1
        return Generation(Prompt(messages), Sampling(**fields), n, top_logprobs=body.get("top_logprobs", 0))

    async def whole(self, body: dict[str, Any]) -> Response:
        """Return the whole completion as one response."""
        call = self.generation(body)
        choices: list[dict[str, Any]] = [
            {"index": k, "message": {"content": ""}, "finish_reason": "stop"} for k in range(call.n)
        ]
        async with self.engine.generate(call) as stream:
            async for delta in stream:
                choices[delta.index]["message"]["content"] += delta.text
                if delta.logprobs:
                    choices[delta.index]["logprobs"] = {"content": [_entry(entry) for entry in delta.logprobs]}
        usage = {"usage": _usage(stream.usage)} if self.reports_usage else {}
        return JSONResponse({"choices": choices, **usage})

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[bytes]:
        """Yield the chunks of a stream, until it breaks off if it is configured to."""
        sent = 0
        async with self.engine.generate(self.generation(body)) as stream:
            if self.thinks:
                yield _event({"choices": [{"index": 0, "delta": {self.thinks: "Let me think."}}]})
            async for delta in stream:
                if sent == self.breaks_after:
                    return
                sent += 1
                yield _event({"choices": [_choice(delta)]})
        if self.reports_usage:
            yield _event({"choices": [], "usage": _usage(stream.usage)})
        yield b"data: [DONE]\n\n"


def _choice(delta: Delta) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": delta.index, "delta": {"content": delta.text}, "finish_reason": delta.finish_reason}
    return choice | ({"logprobs": {"content": [_entry(e) for e in delta.logprobs]}} if delta.logprobs else {})


def _entry(entry: Any) -> dict[str, Any]:
    tops = [{"token": token, "logprob": p} for token, p in entry.top]
    return {"token": entry.token, "logprob": entry.logprob, "top_logprobs": tops}


def _usage(usage: Usage) -> dict[str, Any]:
    cached = {"cached_tokens": usage.cached_tokens}
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "prompt_tokens_details": cached,
    }


def _event(chunk: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(chunk)}\n\n".encode()
