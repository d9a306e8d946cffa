"""How an actor is asked: one dialect for each family of models, in pure functions from texts to a prompt.

Texts are neutralised before they come here.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from actor_service.pocket import PocketActor
from services.contracts.critique import Critique
from services.contracts.problem import Message
from services.engines.protocol import Prompt

MAX_CRITIQUE_CHARS = 4_000
"""A critique is cut to this length on its way back to the actor."""

Turns = tuple[Message, ...]


class ActorDialect(Protocol):
    """How an actor is asked for a solution, a whole new one, and one that goes on after kept steps."""

    @property
    def name(self) -> str:
        """The dialect's name."""
        ...

    def draft(self, turns: Turns) -> Prompt:
        """Ask for a first attempt."""
        ...

    def rewrite(self, turns: Turns, solution: str, critique: Critique | None) -> Prompt:
        """Ask for a new complete solution."""
        ...

    def rewind(self, turns: Turns, solution: str, kept: str, critique: Critique | None) -> Prompt:
        """Ask for a solution that has begun with `kept`, the beginning of `solution`."""
        ...


@dataclass(frozen=True, slots=True)
class ChatDialect:
    """The words around a problem for an instruct model: `task` asks for a solution, `again` for one given `{critique}`."""

    name: str
    task: str
    again: str
    mind: str

    def draft(self, turns: Turns) -> Prompt:
        """Ask for a first attempt."""
        return Prompt(_asked(turns, self.task))

    def rewrite(self, turns: Turns, solution: str, critique: Critique | None) -> Prompt:
        """Ask for a new complete solution, in a turn after the first one."""
        dialogue = (
            *_asked(turns, self.task),
            _turn("assistant", solution),
            _turn("user", self.again.format(critique=words_of(critique))),
        )
        return Prompt(dialogue)

    def rewind(self, turns: Turns, solution: str, kept: str, critique: Critique | None) -> Prompt:
        """Ask for a solution that has begun with the kept steps; the critique is a note beside the task."""
        del solution
        note = self.mind.format(critique=words_of(critique)) if critique else ""
        return Prompt(_asked(turns, self.task + note), prefix=kept)


def words_of(critique: Critique | None) -> str:
    """What a critique tells the actor: the first error and the explanations, cut to `MAX_CRITIQUE_CHARS`."""
    if critique is None:
        return "Please check the solution again."
    lines = [f"Step {critique.first_error} is wrong."] if critique.first_error else []
    lines += [f"On step {said.index}: {said.text.strip()}" for said in critique.explanations]
    if not lines:
        lines = ["The solution is probably wrong." if critique.verdict != "correct" else "The solution looks right."]
    return "\n".join(lines)[:MAX_CRITIQUE_CHARS]


def _asked(turns: Turns, task: str) -> Turns:
    """The conversation with the task at the end of its last user turn, or as one more turn after an assistant's."""
    last = turns[-1]
    if last.role != "user":
        return (*turns, _turn("user", task.strip()))
    return (*turns[:-1], _turn("user", f"{last.content}\n\n{task}"))


def _turn(role: Literal["user", "assistant"], content: str) -> Message:
    """A turn made here, of texts that were checked: with what is put around them it may be longer than a message may be."""
    return Message.model_construct(role=role, content=content)


STRUCTURED = ChatDialect(
    name="structured",
    task=(
        "Solve this step by step. Write one step a line, each beginning with its number: Step 1: ..., Step 2: ...\n"
        "End with a line of this form, with the result in the box: The answer is \\boxed{...}."
    ),
    again=(
        "A reviewer read this solution.\n{critique}\n"
        "Write the whole solution again, with the mistake repaired, one step a line in the same form, "
        "and the answer in a box at the end."
    ),
    mind="\nAn earlier attempt failed; take care not to repeat its mistake.\n{critique}",
)

MATHCRITIQUE = ChatDialect(
    name="mathcritique",
    task=("Reason step by step, one sentence a line, and finish with the line: The answer is $\\boxed{...}$."),
    again=(
        "Here is a critique of the solution above.\n{critique}\n"
        "Using it, give a corrected step-by-step solution that is complete, and finish in the same answer form."
    ),
    mind="\nA critique of an earlier attempt said:\n{critique}",
)

DIALECTS: dict[str, ActorDialect] = {dialect.name: dialect for dialect in (STRUCTURED, MATHCRITIQUE, PocketActor())}
"""The dialects by name."""
