"""The dialects for instruct models: words around the problem that ask for numbered steps and a boxed answer."""

from dataclasses import dataclass

from actor_service.dialects.base import MAX_CRITIQUE_CHARS, Messages, message
from services.contracts.critique import Critique
from services.engines.protocol import Prompt


@dataclass(frozen=True, slots=True)
class ActorChatDialect:
    """The words around a problem for an instruct model.

    `draft_prompt` asks for a solution, `refine_prompt` for one given a `{critique}`; `rewind_note` puts a `{critique}`
    beside the task.
    """

    name: str
    draft_prompt: str
    refine_prompt: str
    rewind_note: str

    def draft(self, messages: Messages) -> Prompt:
        """Return the prompt for a first attempt."""
        return Prompt(_with_task(messages, self.draft_prompt))

    def rewrite(self, messages: Messages, solution: str, critique: Critique | None) -> Prompt:
        """Return the prompt for a new complete solution, in a message after the first one."""
        refine = message("user", self.refine_prompt.format(critique=critique_text(critique)))
        return Prompt((*_with_task(messages, self.draft_prompt), message("assistant", solution), refine))

    def rewind(self, messages: Messages, solution: str, kept: str, critique: Critique | None) -> Prompt:
        """Return the prompt for a solution that continues the kept steps; the critique is a note beside the task."""
        del solution
        note = self.rewind_note.format(critique=critique_text(critique)) if critique else ""
        return Prompt(_with_task(messages, self.draft_prompt + note), prefix=kept)


def critique_text(critique: Critique | None) -> str:
    """Phrase a critique for the actor: the first error and the explanations, cut to `MAX_CRITIQUE_CHARS`."""
    if critique is None:
        return "Please check the solution again."
    lines = [f"Step {critique.first_error} is wrong."] if critique.first_error else []
    lines += [f"On step {explanation.index}: {explanation.text.strip()}" for explanation in critique.explanations]
    if not lines:
        lines = ["The solution is probably wrong." if critique.verdict != "correct" else "The solution looks right."]
    return "\n".join(lines)[:MAX_CRITIQUE_CHARS]


def _with_task(messages: Messages, task: str) -> Messages:
    """Return the conversation with the task at the end of its last user message, or as one more after an assistant's."""
    last = messages[-1]
    if last.role != "user":
        return (*messages, message("user", task.strip()))
    return (*messages[:-1], message("user", f"{last.content}\n\n{task}"))


STRUCTURED = ActorChatDialect(
    name="structured",
    draft_prompt=(
        "Solve this step by step. Write one step a line, each beginning with its number: Step 1: ..., Step 2: ...\n"
        "End with a line of this form, with the result in the box: The answer is \\boxed{...}."
    ),
    refine_prompt=(
        "A reviewer read this solution.\n{critique}\n"
        "Write the whole solution again, with the mistake repaired, one step a line in the same form, "
        "and the answer in a box at the end."
    ),
    rewind_note="\nAn earlier attempt failed; take care not to repeat its mistake.\n{critique}",
)

MATHCRITIQUE = ActorChatDialect(
    name="mathcritique",
    draft_prompt="Reason step by step, one sentence a line, and finish with the line: The answer is $\\boxed{...}$.",
    refine_prompt=(
        "Here is a critique of the solution above.\n{critique}\n"
        "Using it, give a corrected step-by-step solution that is complete, and finish in the same answer form."
    ),
    rewind_note="\nA critique of an earlier attempt said:\n{critique}",
)
