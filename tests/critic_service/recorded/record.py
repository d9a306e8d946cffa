"""Recorder of `outputs.json`: the bundled model's answers to questions for critiques, well-formed and not.

Run it with `python tests/critic_service/recorded/record.py`. Each entry is the parser's name, the number of steps that were
judged, the text, and the labels that the parser reads in it; null where it cannot be read.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from critic_service.dialects import Case, Question, UnparsableCritique
from critic_service.dialects.chat import explain_mathcritique, explain_structured, labels
from services.contracts.messages import Message
from services.contracts.sampling import Sampling
from services.engines.llama import EmbeddedEngine, EmbeddedOptions
from services.engines.models import SMOLLM2, model_path
from services.engines.protocol import Generation, Guide
from services.engines.testing import complete

CASES = (
    ("What is 12 * 3 - 7?", ("Step 1: 12 * 3 = 36", "Step 2: 36 - 7 = 29", "The answer is \\boxed{29}.")),
    ("Ann has 5 apples and eats 2. How many are left?", ("Step 1: 5 - 2 = 4", "The answer is \\boxed{4}.")),
    ("Factor x^2 - 1.", ("Step 1: It is (x - 1)^2.", "Step 2: Hence the roots are 1 and 1.", "Step 3: \\boxed{1}")),
    ("A train goes 60 km in 2 hours. How fast is it?", ("Step 1: 60 / 2 = 30 km/h. The answer is \\boxed{30}.",)),
)
SAMPLING = Sampling(temperature=0.6, seed=5, max_tokens=160)
CUT = Sampling(temperature=0.6, seed=6, max_tokens=24)

PUBLISHED = r"""root ::= %s "Correctness of the final answer: " word "\nExplanation: " line
step ::= "Step sentence: " line "Correctness of the step: " word "\nExplanation: " line
word ::= "Correct\n" | "Wrong\n"
line ::= [^\n]{3,80} "\n"
"""


def questions(case: Case) -> Iterator[tuple[str, Question, Sampling]]:
    """Yield every question: guided, unguided, and cut off."""
    for name, question in (
        ("labels", labels(case)),
        ("first", explain_structured(case, "first")),
        ("all", explain_structured(case, "all")),
    ):
        yield name, question, SAMPLING
        yield name, replace(question, guide=None), SAMPLING
        yield name, question, CUT
    published = explain_mathcritique(case, "all")
    form = Guide("grammar", PUBLISHED % ("step " * len(case.steps)))
    yield "published", published, SAMPLING
    yield "published", replace(published, guide=form), SAMPLING.model_copy(update={"max_tokens": 400})
    yield "published", replace(published, guide=form), CUT


def read(question: Question, text: str) -> list[str] | None:
    """Return the labels that the parser reads; None where it raises."""
    try:
        return [label.label for label in question.parse(text).labels]
    except UnparsableCritique:
        return None


async def record() -> list[dict[str, Any]]:
    """Ask every question."""
    engine = await EmbeddedEngine.load(EmbeddedOptions(model_path(SMOLLM2), context_length=1024, batch=32))
    entries: list[dict[str, Any]] = []
    for problem, steps in CASES:
        case = Case((Message(role="user", content=problem),), steps, "0123456789ab")
        for parser, question, sampling in questions(case):
            (text,) = (await complete(engine, Generation(question.prompt, sampling, guide=question.guide))).texts
            entries.append({"parser": parser, "steps": len(steps), "text": text, "labels": read(question, text)})
    await engine.close()
    return entries


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(entry) for entry in anyio.run(record))
    Path(__file__).with_name("outputs.json").write_text(f"[\n{lines}\n]\n", "utf-8")
