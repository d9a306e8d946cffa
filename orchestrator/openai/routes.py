"""The routes under `/v1`. A client that disconnects cancels its solve, down to the engines."""

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.responses import Response

from orchestrator.openai import wire
from orchestrator.openai.chat_request import BODY, ChatRequest, validated
from orchestrator.openai.presets import PRESETS, ModelEntry, ModelList, preset
from orchestrator.openai.reasoning import ReasoningText
from orchestrator.openai.wire import ChatChunk, ChatCompletion
from orchestrator.runner import Runner, RunOptions
from services.call_context import CallContext, call_context, new_id
from services.contracts.events import AnySolveEvent, StepWritten
from services.contracts.solve import SolveResult
from services.errors import CounterpointError, InvalidRequest
from services.http.error_responses import Refused
from services.http.sse import MEDIA_TYPE
from services.http.streaming import Emit, EventStreamResponse, OwnedJSONResponse, Wire

Call = Annotated[CallContext, Depends(call_context)]
WIRE = Wire(encode=wire.encode, refuse=wire.refuse, end=wire.DONE)

REQUEST = {"requestBody": {"required": True, "content": {"application/json": {"schema": BODY}}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer, or with `stream` its chunks as server-sent events.",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
    },
    **wire.ERRORS,
}


class _Route(APIRoute):
    """A route that answers errors in OpenAI's format."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler, so that errors become responses."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except CounterpointError as error:
                return wire.refuse(error)
            except Refused as refused:
                return wire.refuse(refused.error)

        return handled


@dataclass(slots=True)
class _CompletionStream:
    """One streamed response: the events as reasoning, then the solution as content."""

    request: ChatRequest
    emit: Emit
    id: str = field(default_factory=lambda: new_id("chatcmpl"))
    created: int = field(default_factory=lambda: int(time.time()))
    reasoning: ReasoningText = field(default_factory=ReasoningText)
    content: str = ""

    async def start(self) -> None:
        """Send the role, as the first delta."""
        await self._delta({"role": "assistant"})

    async def on_event(self, event: AnySolveEvent) -> None:
        """Send what an event adds. The steps of a single draft are content at once, since that draft is the answer."""
        if self._single_draft:
            if isinstance(event, StepWritten):
                await self._add_content(f"\n{event.text}" if self.content else event.text)
            return
        text = self.reasoning.add(event)
        if text:
            await self._delta({"reasoning_content": text, "reasoning": text})

    async def finish(self, result: SolveResult) -> None:
        """Send the solution if it was not streamed, the finish reason, and the usage if requested."""
        if not self.content:
            await self._add_content(result.solution)
        await self._delta({}, wire.finish_reason(result))
        if self.request.wants_usage:
            await self.emit(self._chunk([], wire.usage(result, self.request.ignored)))

    @property
    def _single_draft(self) -> bool:
        return self.request.strategy is None and self.request.preset.strategy["name"] == "single"

    async def _add_content(self, text: str) -> None:
        if text:
            self.content += text
            await self._delta({"content": text})

    async def _delta(self, delta: dict[str, str], finish: str | None = None) -> None:
        await self.emit(self._chunk([{"index": 0, "delta": delta, "finish_reason": finish}], None))

    def _chunk(self, choices: list[dict[str, object]], usage: dict[str, object] | None) -> ChatChunk:
        return ChatChunk(id=self.id, created=self.created, model=self.request.model, choices=choices, usage=usage)


async def _body(request: Request) -> object:
    """Decode the JSON body. Raises `InvalidRequest`."""
    try:
        return from_json(await request.body())
    except ValueError as error:
        raise InvalidRequest("the body is not JSON in UTF-8") from error


def router(runner: Runner) -> APIRouter:
    """Return the routes under `/v1`."""
    routes = APIRouter(prefix="/v1", tags=["openai"], route_class=_Route)
    started = int(time.time())

    @routes.get("/models", responses={422: {"model": wire.ErrorBody}})
    async def models() -> ModelList:
        """List the model ids; each selects a strategy."""
        return ModelList(data=tuple(ModelEntry(id=name, created=started) for name in PRESETS))

    @routes.get("/models/{model}", responses=wire.ERRORS)
    async def model(model: str) -> ModelEntry:
        """Return one model id."""
        preset(model)
        return ModelEntry(id=model, created=started)

    @routes.post("/chat/completions", response_model=ChatCompletion, responses=RESPONSES, openapi_extra=REQUEST)
    async def complete(request: Request, call: Call) -> EventStreamResponse | OwnedJSONResponse:
        """Solve the problem of a conversation; the exchange between actor and critic is the reasoning."""
        chat = validated(ChatRequest, await _body(request))
        solve, options = chat.solve_request(), RunOptions(plain=chat.preset.plain and chat.strategy is None)

        async def produce(emit: Emit) -> None:
            stream = _CompletionStream(chat, emit)
            await runner.admit(solve)
            await stream.start()
            await stream.finish(await runner.run(solve, call, stream.on_event, options))

        async def work() -> ChatCompletion:
            reasoning, texts = ReasoningText(), list[str]()

            async def on_event(event: AnySolveEvent) -> None:
                texts.append(reasoning.add(event))

            await runner.admit(solve)
            result = await runner.run(solve, call, on_event, options)
            only_drafts = solve.strategy is not None and solve.strategy.only_drafts
            message = {"role": "assistant", "content": result.solution}
            if not only_drafts and any(texts):
                message["reasoning_content"] = message["reasoning"] = "".join(texts)
            return ChatCompletion(
                id=new_id("chatcmpl"),
                created=int(time.time()),
                model=chat.model,
                choices=[{"index": 0, "message": message, "finish_reason": wire.finish_reason(result)}],
                usage=wire.usage(result, chat.ignored),
            )

        return EventStreamResponse(produce, wire=WIRE) if chat.stream else OwnedJSONResponse(work, refuse=wire.refuse)

    return routes
