"""Solve events and errors on the terminal. Everything a model or a service wrote is untrusted and is escaped."""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from orchestrator.narration import Style, narrate
from services.contracts.critique import Label
from services.contracts.events import SolveEvent

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LABELS: dict[Label | None, str] = {
    "correct": "[green]correct[/]",
    "incorrect": "[red]incorrect[/]",
    "unsure": "[yellow]unsure[/]",
    None: "not judged",
}


def plain(text: str) -> str:
    """Return `text` without control characters and with its markup escaped."""
    return escape(_CONTROL.sub("", text))


STYLE = Style(
    draft="[bold]actor[/] writes {candidate}",
    refinement="[bold]actor[/] writes {candidate}, refining {parent}",
    step="  {index}. {text}",
    step_judged="[bold]critic[/] on step {index}: {label}{explanation}",
    explanation=": {text}",
    candidate_judged="[bold]critic[/] on {candidate}: {verdict}{probability}",
    probability=", p(correct) = {p:.2f}",
    degraded="[yellow]degraded[/] {code}: {detail}",
    unfinished=None,
    vote_group=None,
    answer=(
        "\n[bold]answer[/] {answer}  ({stop_reason}; {usage.total_tokens} tokens: actor {usage.actor.total_tokens}, "
        "critic {usage.critic.total_tokens}; {usage.seconds:.1f} s)"
    ),
    labels=_LABELS,
    verdicts=_LABELS,
    escape=plain,
)
"""Rich markup."""


def print_event(console: Console, event: SolveEvent) -> None:
    """Print the line for an event, if it has one."""
    line = narrate(event, STYLE)
    if line is not None:
        console.print(line)


def print_error(console: Console, code: str, detail: str) -> None:
    """Print an error that a service reported: its code and its detail."""
    console.print(f"[red]{plain(code)}[/]: {plain(detail)}")


@contextmanager
def progress_bars(console: Console) -> Generator[Callable[[str, int, int], None]]:
    """Show a progress bar for each name; yield a function that sets a bar's name, its steps so far, and all its steps."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        bars: dict[str, TaskID] = {}

        def update(name: str, completed: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name)
            progress.update(bars[name], completed=completed, total=total)

        yield update
