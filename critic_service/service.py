"""Judging: from a request to the events of its critique, inside its allowance."""

from dataclasses import dataclass, field

import structlog
from prometheus_client import Counter

from critic_service.dialects import CHOICES, RIGHT, WRONG, Case, Question, question
from critic_service.nonce import nonce
from critic_service.parsing import UnparsableCritique, critique, label_of
from critic_service.scoring import label_probabilities, probability, with_probabilities
from services.allowances import completion_cap
from services.contracts.calls import CritiqueEvent, ExplanationEvent, Judge, LabelEvent, UsageEvent
from services.contracts.critique import DEPTHS, Critique
from services.contracts.model import ModelCard
from services.contracts.problem import Message
from services.contracts.usage import Usage
from services.engines.protocol import Generation, Guide, Running, TokenLogprobs
from services.errors import CounterpointError, EngineFailed
from services.identity import CallContext
from services.role import OpenEngine, RoleService
from services.settings import RoleSettings
from services.streaming import Emit

TOP_LOGPROBS = 20
"""Alternatives asked for at each token; both words of a label are among them as a rule."""

PRIOR = 0.5
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
        super().__init__(settings, open_engine)
        self._secret = secret
        self.unparsable = Counter(
            "counterpoint_critic_unparsable_total",
            "Critiques that could not be read.",
            ("depth",),
            registry=self.metrics.registry,
        )

    def card(self) -> ModelCard:
        """What the critic says about itself; overhead = the prompts' tokens around an empty problem and one empty step."""
        engine, dialect = self.engine, self.settings.dialect
        return ModelCard(
            role="critic",
            model=engine.model,
            engine=engine.name,
            dialect=dialect,
            context_length=engine.context_length,
            parameters=engine.parameters,
            capabilities=engine.capabilities,
            counts=engine.capabilities.counts,
            overhead={depth: engine.count(question(dialect, EMPTY, depth, "all").prompt) for depth in DEPTHS},
            depths=DEPTHS,
            prior=PRIOR,
        )

    async def judge(self, body: Judge, call: CallContext, emit: Emit) -> None:
        """Judge a solution at a depth. What cannot be read is `unsure`, never `correct`."""
        asked = self._question(body)
        cap = completion_cap(
            body.allowance, prompt_tokens=self.engine.count(asked.prompt), n=1, max_tokens=body.sampling.max_tokens
        )
        sampling = body.sampling.model_copy(update={"max_tokens": cap})
        generation = Generation(asked.prompt, sampling, guide=self._guide(asked.guide), top_logprobs=TOP_LOGPROBS)
        running: Running | None = None
        heard = _Heard()
        outcome = "cancelled"
        try:
            with self.calls.running(call) as scope:
                async with self.engine.generate(generation) as running:
                    async for delta in running:
                        heard.text += delta.text
                        heard.tokens += delta.logprobs
            if not scope.cancelled_caught:
                outcome = "ok"
                await self._tell(self._read(body, asked, heard), emit)
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
        return question(self.settings.dialect, Case(turns, steps, mark), body.depth, body.explain)

    def _guide(self, guide: Guide | None) -> Guide | None:
        """The guide where the engine has its kind; else the parser decides alone."""
        return guide if guide and guide.kind in self.engine.capabilities.guided else None

    def _read(self, body: Judge, asked: Question, heard: _Heard) -> Critique:
        try:
            if body.depth == "verdict":
                return _verdict(heard)
            found = asked.parse(heard.text)
        except UnparsableCritique as error:
            self.unparsable.labels(body.depth).inc()
            log.warning("unparsable", depth=body.depth, reason=error.reason)
            return Critique(depth=body.depth, verdict="unsure", unparsable=True)
        scored = with_probabilities(found.labels, label_probabilities(heard.tokens, RIGHT, WRONG))
        final = "incorrect" if found.verdict == "incorrect" and found.first_error is None else None
        return critique(body.depth, scored, found.explanations, final)

    @staticmethod
    async def _tell(found: Critique, emit: Emit) -> None:
        words = {said.index: said for said in found.explanations}
        for label in found.labels:
            await emit(LabelEvent(**label.model_dump()))
            if label.index in words:
                await emit(ExplanationEvent(**words[label.index].model_dump()))
        await emit(CritiqueEvent(**found.model_dump()))


def _verdict(heard: _Heard) -> Critique:
    """The word decides the direction only where no probability does."""
    word = label_of(heard.text)
    p = probability(heard.tokens[0].top, CHOICES[0], CHOICES[1]) if heard.tokens else None
    decided = word if p is None else ("correct" if p >= PRIOR else "incorrect")
    return Critique(depth="verdict", verdict=decided, p_correct=p)
