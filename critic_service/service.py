"""The critic's service: judges a solution within an allowance, and emits the events of its critique."""

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import get_args

import structlog

from critic_service.dialects import PRIOR, Case, Question, UnparsableCritique, dialect_of
from critic_service.nonce import NONCE_CHARS, derive_nonce
from services.call_context import CallContext
from services.contracts.calls import CritiqueEvent, CritiqueRequest, ExplanationEvent, LabelEvent
from services.contracts.critique import DEPTHS, Critique, Depth, Verdict
from services.contracts.messages import Message
from services.contracts.model import ModelCard
from services.engines.protocol import Generation, GenerationStream, Guide, TokenLogprobs
from services.http.streaming import Emit
from services.observability.metrics import RoleMetrics
from services.role import OpenEngine, RoleService
from services.settings import RoleSettings

TOP_LOGPROBS = 20
"""Alternatives requested at each token; normally they include both words of a label."""

SCORED_READS = 3.0
"""Tokens read for each token of a solution whose critique is scored: the solution, and a critique twice as long."""

EMPTY_CASE = Case((Message(role="user", content=""),), ("",), "0" * NONCE_CHARS)

log = structlog.get_logger("critic")


class CriticMetrics(RoleMetrics):
    """A role's metrics, and those of the critiques."""

    def __init__(self) -> None:
        super().__init__(["critique"])
        self.unparsable = self._counter("critic_unparsable", "Critiques that could not be read.", depth=DEPTHS)
        self.verdicts = self._counter(
            "critic_verdicts", "Critiques by depth and verdict.", depth=DEPTHS, verdict=get_args(Verdict)
        )

    def record_critique(self, critique: Critique) -> None:
        """Count a complete critique."""
        self.verdicts.labels(critique.depth, critique.verdict).inc()
        if critique.unparsable:
            self.unparsable.labels(critique.depth).inc()


class _Answer:
    """The handler of a call, whose text becomes one critique at its end. See `services.role.service.CallHandler`."""

    def __init__(self, question: Question, depth: Depth, metrics: CriticMetrics, emit: Emit) -> None:
        self._question = question
        self._depth: Depth = depth
        self._metrics = metrics
        self._emit = emit
        self._text = ""
        self._tokens: list[TokenLogprobs] = []

    async def follow(self, stream: GenerationStream) -> None:
        """Read the answer."""
        async for delta in stream:
            self._text += delta.text
            self._tokens += delta.logprobs

    async def finish(self, *, cancelled: bool) -> None:
        """Emit the labels, the explanations and the critique, unless the answer is incomplete."""
        if cancelled:
            return
        critique = self._parse()
        self._metrics.record_critique(critique)
        explanations = {entry.index: entry for entry in critique.explanations}
        for label in critique.labels:
            await self._emit(LabelEvent(**label.model_dump()))
            if label.index in explanations:
                await self._emit(ExplanationEvent(**explanations[label.index].model_dump()))
        await self._emit(CritiqueEvent(**critique.model_dump()))

    async def recover(self) -> bool:
        """Return False: an incomplete answer cannot be used."""
        return False

    def _parse(self) -> Critique:
        """Return the critique; `unsure`, never `correct`, where the answer cannot be parsed."""
        try:
            return self._question.add_probabilities(self._question.parse(self._text), self._tokens)
        except UnparsableCritique as error:
            log.warning("unparsable", depth=self._depth, reason=error.reason)
            return Critique(depth=self._depth, verdict="unsure", unparsable=True)


class CriticService(RoleService):
    """A role service that judges solutions, at three depths."""

    def __init__(self, settings: RoleSettings, open_engine: OpenEngine, secret: bytes) -> None:
        self._critic_metrics = CriticMetrics()
        super().__init__(settings, open_engine, self._critic_metrics)
        self._dialect = dialect_of(settings)
        self._secret = secret

    def card(self) -> ModelCard:
        """Return the critic's model card; its overhead is that of an empty problem and one empty step, in tokens."""
        engine = self.engine
        one, two = self._card_questions(EMPTY_CASE), self._card_questions(replace(EMPTY_CASE, steps=("", "")))
        overhead = {depth: engine.count(question.full_prompt) for depth, question in one.items()}
        return self._card(
            "critic",
            self._dialect.name,
            overhead=overhead,
            markers={depth: engine.count(two[depth].full_prompt) - overhead[depth] for depth in DEPTHS},
            reads={depth: SCORED_READS if question.scored_answer else 1.0 for depth, question in one.items()},
            depths=DEPTHS,
            prior=PRIOR,
        )

    async def judge(self, body: CritiqueRequest, call: CallContext, emit: Emit) -> None:
        """Judge a solution at a depth."""
        question = self._question(body)
        answer = _Answer(question, body.depth, self._critic_metrics, emit)
        await self.run_call("critique", call, self._generation(question, body, call), answer, emit)

    def _card_questions(self, case: Case) -> dict[Depth, Question]:
        scores = self.engine.capabilities.score
        return {depth: self._dialect.question(case, depth, "all", scores=scores) for depth in DEPTHS}

    def _question(self, body: CritiqueRequest) -> Question:
        messages = self.safe_messages(body.as_messages)
        steps = tuple(self.safe(step) for step in body.steps)
        case = Case(messages, steps, derive_nonce(self._secret, messages, body.sampling.seed), body.unfinished)
        return self._dialect.question(case, body.depth, body.explain, scores=self.engine.capabilities.score)

    def _generation(
        self, question: Question, body: CritiqueRequest, call: CallContext
    ) -> AbstractAsyncContextManager[GenerationStream]:
        """Let the engine write the answer, or score the given one. Raises `BudgetTooSmall`."""
        sampling = self.capped(body.sampling, body.allowance, question.full_prompt)
        if question.scored_answer is not None:
            return self.engine.score(question.prompt, question.scored_answer, call)
        guide = self._supported(question.guide)
        return self.engine.generate(Generation(question.prompt, sampling, guide=guide, top_logprobs=TOP_LOGPROBS, call=call))

    def _supported(self, guide: Guide | None) -> Guide | None:
        """Return the guide if the engine supports its kind; otherwise the parser alone checks the answer."""
        return guide if guide and guide.kind in self.engine.capabilities.guided else None
