"""Drafting and refining: from a request to the events of its samples, inside its allowance."""

from dataclasses import dataclass, field

from actor_service.answer import answer_of
from actor_service.dialects import DIALECTS
from actor_service.steps import StepWriter, prefix_of, steps_of
from services.allowances import completion_cap
from services.call_context import CallContext
from services.contracts.base import MAX_TEXT_CHARS
from services.contracts.calls import CandidateEvent, Draft, FinishReason, Refine, StepEvent, UsageEvent, WrittenStep
from services.contracts.critique import Critique
from services.contracts.model import ModelCard
from services.contracts.problem import Message
from services.contracts.usage import Usage
from services.engines.protocol import Delta, Generation, Prompt, Running
from services.errors import CounterpointError, EngineFailed
from services.metrics import RoleMetrics
from services.role import OpenEngine, RoleService, caller_of
from services.settings import RoleSettings
from services.streaming import Emit

EMPTY = (Message(role="user", content=""),)


@dataclass(slots=True)
class _Sample:
    """One solution while it is written."""

    index: int
    writer: StepWriter = field(default_factory=StepWriter)
    finish: FinishReason | None = None
    tokens: int = 0

    @property
    def full(self) -> bool:
        """Whether the solution is as long as a text may be; what comes after is dropped."""
        return len(self.writer.text) == MAX_TEXT_CHARS

    def feed(self, text: str) -> list[WrittenStep]:
        """Take more text, without null bytes, which no message may hold; the steps that it completed."""
        room = MAX_TEXT_CHARS - len(self.writer.text)
        return self.writer.feed(text.replace("\x00", "")[:room])

    def candidate(self, finish: FinishReason) -> CandidateEvent:
        """The solution as far as it has come."""
        text = self.writer.text
        return CandidateEvent(
            sample=self.index,
            text=text,
            steps=steps_of(text),
            answer=answer_of(text),
            finish_reason=finish,
            completion_tokens=self.tokens,
        )


class ActorService(RoleService):
    """The actor's two verbs."""

    def __init__(self, settings: RoleSettings, open_engine: OpenEngine) -> None:
        super().__init__(settings, open_engine, RoleMetrics(("draft", "refine")))

    @property
    def dialect(self) -> str:
        """The dialect in use."""
        return self.settings.spoken

    def card(self) -> ModelCard:
        """What the actor says about itself; overhead = the prompts' tokens around empty texts."""
        engine, dialect = self.engine, DIALECTS[self.dialect]
        count = engine.count
        return ModelCard(
            role="actor",
            model=engine.model,
            engine=engine.name,
            dialect=dialect.name,
            context_length=engine.context_length,
            parameters=engine.parameters,
            capabilities=engine.capabilities,
            counts=engine.capabilities.counts,
            overhead={
                "draft": count(dialect.draft(EMPTY)),
                "refine": count(dialect.rewrite(EMPTY, "", Critique(depth="verdict", verdict="incorrect"))),
            },
        )

    async def draft(self, body: Draft, call: CallContext, emit: Emit) -> None:
        """Write `n` first attempts; `plain` gives the model the conversation and nothing else."""
        turns = self._safe_turns(body.turns)
        prompt = Prompt(turns) if body.plain else DIALECTS[self.dialect].draft(turns)
        await self._write("draft", prompt, body, call, emit)

    async def refine(self, body: Refine, call: CallContext, emit: Emit) -> None:
        """Write `n` new attempts given a critique, from the start or after the kept steps.

        Where the engine cannot continue a prefix, keeping steps is the same as rewriting.
        """
        dialect, turns = DIALECTS[self.dialect], self._safe_turns(body.turns)
        critique = self._safe_critique(body.critique)
        kept = prefix_of(body.solution, body.keep_steps)
        if kept and self.engine.capabilities.prefix:
            prompt = dialect.rewind(turns, self.safe(body.solution), self.safe(kept), critique)
        else:
            prompt = dialect.rewrite(turns, self.safe(body.solution), critique)
        await self._write("refine", prompt, body, call, emit)

    async def _write(self, verb: str, prompt: Prompt, body: Draft | Refine, call: CallContext, emit: Emit) -> None:
        cap = completion_cap(
            body.allowance, prompt_tokens=self.engine.count(prompt), n=body.n, max_tokens=body.sampling.max_tokens
        )
        sampling = body.sampling.model_copy(update={"max_tokens": cap})
        samples = [_Sample(index) for index in range(body.n)]
        running: Running | None = None
        outcome = "cancelled"
        try:
            with self.calls.running(call) as scope:
                generation = Generation(prompt, sampling, body.n, caller=caller_of(call))
                async with self.engine.generate(generation) as running:
                    await self._follow(running, samples, prompt.prefix, emit)
            outcome = "cancelled" if scope.cancelled_caught else "ok"
            await self._finish(samples, "cancelled", emit)
            await emit(UsageEvent(**running.usage.model_dump() if running else {}))
        except EngineFailed as error:
            outcome = "failed"
            await self._fail(samples, running, emit, error)
        except CounterpointError:
            outcome = "refused"
            raise
        finally:
            self.metrics.record(verb, outcome, running.usage if running else Usage())

    @staticmethod
    async def _follow(running: Running, samples: list[_Sample], prefix: str, emit: Emit) -> None:
        for sample in samples:
            for step in sample.feed(prefix) if prefix else ():
                await emit(StepEvent(sample=sample.index, index=step.index, text=step.text))
        async for delta in running:
            await _take(samples[delta.index], delta, emit)

    @staticmethod
    async def _finish(samples: list[_Sample], reason: FinishReason, emit: Emit) -> None:
        for sample in samples:
            if sample.finish is None:
                await emit(sample.candidate(reason))

    async def _fail(self, samples: list[_Sample], running: Running | None, emit: Emit, error: EngineFailed) -> None:
        """An engine that fails costs the samples that were not complete; with none complete, the call."""
        usage = running.usage if running else Usage()
        complete = any(sample.finish for sample in samples)
        if complete:
            await self._finish(samples, "failed", emit)
        if complete or usage.total_tokens:
            await emit(UsageEvent(**usage.model_dump()))
        if not complete:
            raise error

    def _safe_turns(self, turns: tuple[Message, ...]) -> tuple[Message, ...]:
        return tuple(turn.model_copy(update={"content": self.safe(turn.content)}) for turn in turns)

    def _safe_critique(self, critique: Critique | None) -> Critique | None:
        if critique is None:
            return None
        said = tuple(entry.model_copy(update={"text": self.safe(entry.text)}) for entry in critique.explanations)
        return critique.model_copy(update={"explanations": said})


async def _take(sample: _Sample, delta: Delta, emit: Emit) -> None:
    sample.tokens += delta.tokens
    steps = sample.feed(delta.text)
    if delta.finish_reason:
        steps += sample.writer.close()
    for step in steps:
        await emit(StepEvent(sample=sample.index, index=step.index, text=step.text))
    if delta.finish_reason:
        sample.finish = "length" if sample.full else delta.finish_reason
        await emit(sample.candidate(sample.finish))
