"""The pocket actor's turns: problem, solution, critique (`pocket.wording`); the model writes the next one.

A critique is told in the critic's own lines. Of the steps before the first error, which it found right, the critic's lines
follow from the solution; of the error, they are its explanation.
"""

from pocket import wording
from services.contracts.critique import Critique
from services.contracts.problem import Message
from services.engines.protocol import Prompt

Turns = tuple[Message, ...]


class PocketActor:
    """How the pocket actor is asked."""

    name = "pocket"

    def draft(self, turns: Turns) -> Prompt:
        """The problem."""
        return Prompt((_problem(turns),))

    def rewrite(self, turns: Turns, solution: str, critique: Critique | None) -> Prompt:
        """The problem, the solution, the critique."""
        lines = [line for line in solution.split("\n") if line.strip()]
        return Prompt((_problem(turns), _turn("assistant", "\n".join(lines)), _turn("user", words_of(lines, critique))))

    def rewind(self, turns: Turns, solution: str, kept: str, critique: Critique | None) -> Prompt:
        """The same, and the new solution's beginning."""
        asked = self.rewrite(turns, solution, critique)
        return Prompt(asked.messages, prefix=kept)


def words_of(lines: list[str], critique: Critique | None) -> str:
    """The critique in the critic's words, up to the first error; empty without one."""
    if critique is None or critique.verdict == "unsure":
        return ""
    wrong = critique.first_error
    if critique.verdict == "correct":
        return wording.all_correct(lines)
    said = {entry.index: entry.text for entry in critique.explanations}
    if wrong is None or wrong not in said:
        return ""
    before = [wording.right_line(index, wording.claim(line)) for index, line in enumerate(lines[: wrong - 1], start=1)]
    return "\n".join([*before, f"Step {wrong}: {said[wrong]}", wording.verdict_line(wrong)])


def _problem(turns: Turns) -> Message:
    return _turn("user", "\n".join(turn.content for turn in turns))


def _turn(role: str, content: str) -> Message:
    return Message.model_construct(role=role, content=content)
