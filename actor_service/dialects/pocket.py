"""The dialect of the pocket actor: problem, solution and critique as messages (`pocket.wording`); the model writes the next.

A critique is phrased in the critic's own lines. For the steps before the first error, which are right, its lines follow from
the solution; for the error, they are its explanation.
"""

from actor_service.dialects.base import Messages, message
from pocket import wording
from services.contracts.critique import Critique
from services.contracts.messages import Message
from services.engines.protocol import Prompt


class PocketActorDialect:
    """The prompts of the pocket actor."""

    name = "pocket"

    def draft(self, messages: Messages) -> Prompt:
        """Return the prompt with the problem."""
        return Prompt((_problem(messages),))

    def rewrite(self, messages: Messages, solution: str, critique: Critique | None) -> Prompt:
        """Return the prompt with the problem, the solution and the critique."""
        lines = [line for line in solution.split("\n") if line.strip()]
        critic = message("user", critic_lines(lines, critique))
        return Prompt((_problem(messages), message("assistant", "\n".join(lines)), critic))

    def rewind(self, messages: Messages, solution: str, kept: str, critique: Critique | None) -> Prompt:
        """Return the same prompt, followed by the start of the new solution."""
        return Prompt(self.rewrite(messages, solution, critique).messages, prefix=kept)


def critic_lines(lines: list[str], critique: Critique | None) -> str:
    """Phrase the critique of a solution's lines as the critic does, up to the first error; empty without one."""
    if critique is None or critique.verdict == "unsure":
        return ""
    wrong = critique.first_error
    if critique.verdict == "correct":
        return wording.all_correct(lines)
    explanations = {entry.index: entry.text for entry in critique.explanations}
    if wrong is None or wrong not in explanations:
        return ""
    before = [wording.right_line(index, wording.claim(line)) for index, line in enumerate(lines[: wrong - 1], start=1)]
    return "\n".join([*before, f"Step {wrong}: {explanations[wrong]}", wording.verdict_line(wrong)])


def _problem(messages: Messages) -> Message:
    return message("user", "\n".join(entry.content for entry in messages))
