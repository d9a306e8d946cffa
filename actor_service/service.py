"""The actor's service: drafts and refines within an allowance, and emits the events of each sample."""

from dataclasses import dataclass, field

from actor_service.answer import answer_of
from actor_service.dialects import DIALECTS
from actor_service.steps import StepWriter, prefix_of, steps_of
from services.call_context import CallContext
from services.contracts.base import MAX_TEXT_CHARS
from services.contracts.calls import CandidateEvent, DraftRequest, FinishReason, RefineRequest, StepEvent, WrittenStep
from services.contracts.critique import Critique
from services.contracts.messages import Message
from services.contracts.model import ModelCard
from services.engines.protocol import Delta, Generation, GenerationStream, Prompt
from services.http.streaming import Emit
from services.observability.metrics import RoleMetrics
from services.role import OpenEngine, RoleService
from services.settings import RoleSettings

EMPTY_MESSAGES = (Message(role="user", content=""),)


@dataclass(slots=True)
class _Sample:
    """A solution while it is written."""

    index: int
    writer: StepWriter = field(default_factory=StepWriter)
    finish: FinishReason | None = None
    tokens: int = 0

    @property
    def full(self) -> bool:
        """True if the solution has the maximum length of a text; further text is dropped."""
        return len(self.writer.text) == MAX_TEXT_CHARS

    def feed(self, text: str) -> list[WrittenStep]:
        """Add text, without null bytes, which messages must not contain; return the steps that it completed."""
        most = MAX_TEXT_CHARS - len(self.writer.text)
        return self.writer.feed(text.replace("\x00", "")[:most])

    def candidate(self, finish: FinishReason) -> CandidateEvent:
        """Return the solution written so far."""
        text = self.writer.text
        return CandidateEvent(
            sample=self.index,
            text=text,
            steps=steps_of(text),
            answer=answer_of(text),
            finish_reason=finish,
            completion_tokens=self.tokens,
        )


class _Samples:
    """The handler of a call: its samples, each of which begins with `prefix`. See `services.role.service.CallHandler`."""

    def __init__(self, n: int, prefix: str, emit: Emit) -> None:
        self._samples = [_Sample(index) for index in range(n)]
        self._prefix = prefix
        self._emit = emit

    async def follow(self, stream: GenerationStream) -> None:
        """Emit steps and candidates as they are completed."""
        if self._prefix:
            for sample in self._samples:
                await self._emit_steps(sample, sample.feed(self._prefix))
        async for delta in stream:
            await self._add(self._samples[delta.index], delta)

    async def finish(self, *, cancelled: bool) -> None:
        """Emit the samples that were cut off."""
        del cancelled  # only a cancelled call has any
        await self._cut_off("cancelled")

    async def recover(self) -> bool:
        """If any sample is complete, emit the others as failed: a failure costs only the incomplete ones."""
        complete = any(sample.finish for sample in self._samples)
        if complete:
            await self._cut_off("failed")
        return complete

    async def _add(self, sample: _Sample, delta: Delta) -> None:
        sample.tokens += delta.tokens
        steps = sample.feed(delta.text)
        if delta.finish_reason:
            steps += sample.writer.close()
        await self._emit_steps(sample, steps)
        if delta.finish_reason:
            sample.finish = "length" if sample.full else delta.finish_reason
            await self._emit(sample.candidate(sample.finish))

    async def _emit_steps(self, sample: _Sample, steps: list[WrittenStep]) -> None:
        for step in steps:
            await self._emit(StepEvent(sample=sample.index, index=step.index, text=step.text))

    async def _cut_off(self, reason: FinishReason) -> None:
        for sample in self._samples:
            if sample.finish is None:
                await self._emit(sample.candidate(reason))


class ActorService(RoleService):
    """A role service that drafts and refines."""

    def __init__(self, settings: RoleSettings, open_engine: OpenEngine) -> None:
        super().__init__(settings, open_engine, RoleMetrics(("draft", "refine")))
        self._dialect = settings.choose_dialect(DIALECTS)

    def card(self) -> ModelCard:
        """Return the actor's model card; its overhead is that of empty texts, in tokens."""
        engine, dialect = self.engine, self._dialect
        incorrect = Critique(depth="verdict", verdict="incorrect")
        overhead = {
            "draft": engine.count(dialect.draft(EMPTY_MESSAGES)),
            "refine": engine.count(dialect.rewrite(EMPTY_MESSAGES, "", incorrect)),
        }
        return self._card("actor", dialect.name, overhead=overhead)

    async def draft(self, body: DraftRequest, call: CallContext, emit: Emit) -> None:
        """Write `n` first attempts; with `plain` the prompt is the conversation alone."""
        messages = self.safe_messages(body.as_messages)
        prompt = Prompt(messages) if body.plain else self._dialect.draft(messages)
        await self._write("draft", prompt, body, call, emit)

    async def refine(self, body: RefineRequest, call: CallContext, emit: Emit) -> None:
        """Write `n` new attempts given a critique, from the start or after the kept steps.

        If the engine cannot continue a prefix, it rewrites from the start.
        """
        messages, solution = self.safe_messages(body.as_messages), self.safe(body.solution)
        critique = self._safe_critique(body.critique)
        kept = prefix_of(body.solution, body.keep_steps)
        if kept and self.engine.capabilities.prefix:
            prompt = self._dialect.rewind(messages, solution, self.safe(kept), critique)
        else:
            prompt = self._dialect.rewrite(messages, solution, critique)
        await self._write("refine", prompt, body, call, emit)

    async def _write(
        self, verb: str, prompt: Prompt, body: DraftRequest | RefineRequest, call: CallContext, emit: Emit
    ) -> None:
        sampling = self.capped(body.sampling, body.allowance, prompt, body.n)
        generation = self.engine.generate(Generation(prompt, sampling, body.n, call=call))
        await self.run_call(verb, call, generation, _Samples(body.n, prompt.prefix, emit), emit)

    def _safe_critique(self, critique: Critique | None) -> Critique | None:
        if critique is None:
            return None
        explanations = tuple(entry.model_copy(update={"text": self.safe(entry.text)}) for entry in critique.explanations)
        return critique.model_copy(update={"explanations": explanations})
