"""The routes. Errors have OpenAI's form here; a client that hangs up stops the engine, as everywhere."""

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.responses import Response

from orchestrator.openai import wire
from orchestrator.openai.dialogue import Dialogue
from orchestrator.openai.presets import PRESETS, ModelEntry, ModelList, preset
from orchestrator.openai.request import BODY, ChatRequest, parse
from orchestrator.openai.wire import Chunk, Completion
from orchestrator.runner import Runner, RunOptions
from services.call_context import CallContext, call_context, new_id
from services.contracts.events import SolveEvent, StepWritten
from services.contracts.solve import SolveResult
from services.errors import CounterpointError, InvalidRequest
from services.problems import Refused
from services.sse import MEDIA_TYPE
from services.streaming import Emit, EventStreamResponse, OwnedJSONResponse, Wire

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
    """A route whose errors OpenAI's clients understand."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with typed errors caught."""
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
class _Telling:
    """One answer as it is told: the dialogue as reasoning, then the solution as content."""

    request: ChatRequest
    send: Emit
    id: str = field(default_factory=lambda: new_id("chatcmpl"))
    created: int = field(default_factory=lambda: int(time.time()))
    dialogue: Dialogue = field(default_factory=Dialogue)
    sent: str = ""

    async def begin(self) -> None:
        """The role, first of all."""
        await self._delta({"role": "assistant"})

    async def hear(self, event: SolveEvent) -> None:
        """Pass on what an event says. A lone draft is the answer, so its steps are content at once."""
        if self._alone:
            if isinstance(event, StepWritten):
                await self._content(f"\n{event.text}" if self.sent else event.text)
            return
        text = self.dialogue.tell(event)
        if text:
            await self._delta({"reasoning_content": text, "reasoning": text})

    async def end(self, result: SolveResult) -> None:
        """The solution, why it ended, and its account."""
        if not self.sent:
            await self._content(result.solution)
        await self._delta({}, wire.finish_reason(result))
        if self.request.wants_usage:
            await self.send(self._chunk([], wire.usage(result, self.request.ignored)))

    @property
    def _alone(self) -> bool:
        return self.request.strategy is None and self.request.preset.strategy["name"] == "single"

    async def _content(self, text: str) -> None:
        if text:
            self.sent += text
            await self._delta({"content": text})

    async def _delta(self, delta: dict[str, str], finish: str | None = None) -> None:
        await self.send(self._chunk([{"index": 0, "delta": delta, "finish_reason": finish}], None))

    def _chunk(self, choices: list[dict[str, object]], usage: dict[str, object] | None) -> Chunk:
        return Chunk(id=self.id, created=self.created, model=self.request.model, choices=choices, usage=usage)


async def _body(request: Request) -> object:
    """The JSON of a body. Raises `InvalidRequest`."""
    try:
        return from_json(await request.body())
    except ValueError as error:
        raise InvalidRequest("the body is not JSON in UTF-8") from error


def router(runner: Runner) -> APIRouter:
    """`/v1` of the orchestrator."""
    routes = APIRouter(prefix="/v1", tags=["openai"], route_class=_Route)
    started = int(time.time())

    @routes.get("/models", responses={422: {"model": wire.ErrorBody}})
    async def models() -> ModelList:
        """The model ids: each is a strategy."""
        return ModelList(data=tuple(ModelEntry(id=name, created=started) for name in PRESETS))

    @routes.get("/models/{model}", responses=wire.ERRORS)
    async def model(model: str) -> ModelEntry:
        """One model id."""
        preset(model)
        return ModelEntry(id=model, created=started)

    @routes.post("/chat/completions", response_model=Completion, responses=RESPONSES, openapi_extra=REQUEST)
    async def complete(request: Request, call: Call) -> EventStreamResponse | OwnedJSONResponse:
        """Solve what the conversation asks: OpenAI's chat completions, the dialogue as reasoning."""
        chat = parse(await _body(request))
        asked, plain = chat.solve(), chat.preset.plain and chat.strategy is None

        async def produce(emit: Emit) -> None:
            telling = _Telling(chat, emit)
            await runner.admit(asked)
            await telling.begin()
            await telling.end(await runner.run(asked, call, telling.hear, RunOptions(plain=plain)))

        async def work() -> Completion:
            reasoning: list[str] = []
            dialogue = Dialogue()

            async def hear(event: SolveEvent) -> None:
                reasoning.append(dialogue.tell(event))

            await runner.admit(asked)
            result = await runner.run(asked, call, hear, RunOptions(plain=plain))
            return _completion(chat, result, "" if asked.strategy and asked.strategy.only_drafts else "".join(reasoning))

        return EventStreamResponse(produce, wire=WIRE) if chat.stream else OwnedJSONResponse(work, refuse=wire.refuse)

    return routes


def _completion(chat: ChatRequest, result: SolveResult, reasoning: str) -> Completion:
    message = {"role": "assistant", "content": result.solution}
    if reasoning:
        message |= {"reasoning_content": reasoning, "reasoning": reasoning}
    return Completion(
        id=new_id("chatcmpl"),
        created=int(time.time()),
        model=chat.model,
        choices=[{"index": 0, "message": message, "finish_reason": wire.finish_reason(result)}],
        usage=wire.usage(result, chat.ignored),
    )
