"""Judging: from a request to the events of its critique, inside its allowance."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace

import structlog

from critic_service.asking import ask_for
from critic_service.dialects import PRIOR, Case, Question
from critic_service.metrics import CriticMetrics
from critic_service.nonce import nonce
from critic_service.parsing import UnparsableCritique
from services.allowances import completion_cap
from services.call_context import CallContext
from services.contracts.calls import CritiqueEvent, ExplanationEvent, Judge, LabelEvent, UsageEvent
from services.contracts.critique import DEPTHS, Critique
from services.contracts.model import ModelCard
from services.contracts.problem import Message
from services.contracts.usage import Usage
from services.engines.protocol import Caller, Generation, Guide, Prompt, Running, TokenLogprobs
from services.errors import CounterpointError, EngineFailed
from services.role import OpenEngine, RoleService, caller_of
from services.settings import RoleSettings
from services.streaming import Emit

TOP_LOGPROBS = 20
"""Alternatives asked for at each token; both words of a label are among them as a rule."""

SCORED_READS = 3.0
"""Tokens read for each token of a solution whose critique is scored: its own, and those of a critique twice as long."""

EMPTY = Case((Message(role="user", content=""),), ("",), "0" * 12)

log = structlog.get_logger("critic")


@dataclass(slots=True)
class _Heard:
    """What the critic has said so far."""

    text: str = ""
    tokens: list[TokenLogprobs] = field(default_factory=list[TokenLogprobs])


class CriticService(RoleService):
    """The critic's one verb, at three depths."""

    def __init__(self, settings: RoleSettings, open_engine: OpenEngine, secret: bytes) -> None:
        self.measured = CriticMetrics()
        super().__init__(settings, open_engine, self.measured)
        self._ask = ask_for(settings)
        self._secret = secret

    def card(self) -> ModelCard:
        """What the critic says about itself; overhead = the prompts' tokens around an empty problem and one empty step."""
        engine = self.engine
        asked = {depth: self._ask(EMPTY, depth, "all", engine.capabilities.score) for depth in DEPTHS}
        longer = replace(EMPTY, steps=("", ""))
        more = {depth: self._ask(longer, depth, "all", engine.capabilities.score) for depth in DEPTHS}
        return ModelCard(
            role="critic",
            model=engine.model,
            engine=engine.name,
            dialect=self.settings.spoken,
            context_length=engine.context_length,
            parameters=engine.parameters,
            capabilities=engine.capabilities,
            counts=engine.capabilities.counts,
            overhead={depth: engine.count(_whole(question)) for depth, question in asked.items()},
            markers={depth: engine.count(_whole(more[depth])) - engine.count(_whole(asked[depth])) for depth in DEPTHS},
            reads={depth: SCORED_READS if question.score else 1.0 for depth, question in asked.items()},
            depths=DEPTHS,
            prior=PRIOR,
        )

    async def judge(self, body: Judge, call: CallContext, emit: Emit) -> None:
        """Judge a solution at a depth. What cannot be read is `unsure`, never `correct`."""
        asked = self._question(body)
        cap = completion_cap(
            body.allowance, prompt_tokens=self.engine.count(_whole(asked)), n=1, max_tokens=body.sampling.max_tokens
        )
        running: Running | None = None
        heard = _Heard()
        outcome = "cancelled"
        try:
            with self.calls.running(call) as scope:
                async with self._answer(asked, body, cap, caller_of(call)) as running:
                    async for delta in running:
                        heard.text += delta.text
                        heard.tokens += delta.logprobs
            if not scope.cancelled_caught:
                outcome = "ok"
                found = self._read(body, asked, heard)
                self.measured.told(found)
                await self._tell(found, emit)
            await emit(UsageEvent(**running.usage.model_dump() if running else {}))
        except EngineFailed:
            outcome = "failed"
            if running and running.usage.total_tokens:
                await emit(UsageEvent(**running.usage.model_dump()))
            raise
        except CounterpointError:
            outcome = "refused"
            raise
        finally:
            self.metrics.record("critique", outcome, running.usage if running else Usage())

    def _question(self, body: Judge) -> Question:
        turns = tuple(turn.model_copy(update={"content": self.safe(turn.content)}) for turn in body.turns)
        steps = tuple(self.safe(step) for step in body.steps)
        mark = nonce(self._secret, turns, body.sampling.seed)
        return self._ask(Case(turns, steps, mark, body.unfinished), body.depth, body.explain, self.engine.capabilities.score)

    def _answer(self, asked: Question, body: Judge, cap: int, caller: Caller) -> AbstractAsyncContextManager[Running]:
        """Have the engine write the answer, or read the one that is given."""
        if asked.score is not None:
            return self.engine.score(asked.prompt, asked.score, caller)
        sampling = body.sampling.model_copy(update={"max_tokens": cap})
        return self.engine.generate(
            Generation(asked.prompt, sampling, guide=self._guide(asked.guide), top_logprobs=TOP_LOGPROBS, caller=caller)
        )

    def _guide(self, guide: Guide | None) -> Guide | None:
        """The guide where the engine has its kind; else the parser decides alone."""
        return guide if guide and guide.kind in self.engine.capabilities.guided else None

    def _read(self, body: Judge, asked: Question, heard: _Heard) -> Critique:
        try:
            return asked.weigh(asked.parse(heard.text), heard.tokens)
        except UnparsableCritique as error:
            log.warning("unparsable", depth=body.depth, reason=error.reason)
            return Critique(depth=body.depth, verdict="unsure", unparsable=True)

    @staticmethod
    async def _tell(found: Critique, emit: Emit) -> None:
        words = {said.index: said for said in found.explanations}
        for label in found.labels:
            await emit(LabelEvent(**label.model_dump()))
            if label.index in words:
                await emit(ExplanationEvent(**words[label.index].model_dump()))
        await emit(CritiqueEvent(**found.model_dump()))


def _whole(asked: Question) -> Prompt:
    """All that the engine reads."""
    return replace(asked.prompt, prefix=asked.score or "")
