"""The parsers on recorded output of a model, as it is and after any damage: a critique or a typed error, never a guess.

`recorded/record.py` says where the texts come from.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critic_service.dialects.parsing import (
    UnparsableCritique,
    build_critique,
    parse_all,
    parse_first,
    parse_labels,
    parse_published,
)
from critic_service.routes import router
from critic_service.service import CriticService
from services.contracts.critique import Critique
from services.engines.scripted import CAPABILITIES, Script, ScriptedEngine, ScriptedOptions
from services.role import create_role_app
from services.settings import CriticSettings
from services.testing import post_events, serve

PARSERS: dict[str, Callable[[str, int], Critique]] = {
    "labels": lambda text, steps: build_critique("labels", *parse_labels(text, steps)),
    "first": lambda text, steps: build_critique("explain", *parse_first(text, steps)),
    "all": lambda text, steps: build_critique("explain", *parse_all(text, steps)),
    "published": lambda text, steps: build_critique("explain", *parse_published(text, steps)),
}


@dataclass(frozen=True)
class Recorded:
    """One output, and the labels that stand in it; None = it is no critique."""

    parser: str
    steps: int
    text: str
    labels: list[str] | None

    def read(self, text: str | None = None) -> Critique | None:
        """Return the critique in `text` (by default its own); None where the parser raises its typed error."""
        try:
            return PARSERS[self.parser](self.text if text is None else text, self.steps)
        except UnparsableCritique:
            return None


def _recorded() -> list[Recorded]:
    entries: list[dict[str, Any]] = json.loads(
        Path(__file__).with_name("recorded").joinpath("outputs.json").read_text("utf-8")
    )
    return [Recorded(**entry) for entry in entries]


RECORDED = _recorded()
SOUND = [entry for entry in RECORDED if entry.labels]
WRITTEN = [
    Recorded("labels", 2, '{"1": "correct", "2": "correct"}', ["correct"] * 2),
    Recorded("first", 2, '{"labels": {"1": "correct", "2": "correct"}, "explanation": ""}', ["correct"] * 2),
    Recorded(
        "all",
        2,
        '{"steps": [{"explanation": "It holds.", "label": "correct"}, {"explanation": "So does it.", "label": "correct"}]}',
        ["correct"] * 2,
    ),
    Recorded(
        "published",
        2,
        "Step sentence: 1 + 1 = 2\nCorrectness of the step: Correct\nExplanation: It holds.\n"
        "Step sentence: 2 + 2 = 4\nCorrectness of the step: Correct\nExplanation: So does it.\n"
        "Correctness of the final answer: Correct\nExplanation: Yes.\n",
        ["correct"] * 2,
    ),
]
"""All steps are correct in these, as is rare in a small model's output: damage comes closest to a wrong `correct`."""

PIECES = (
    "\n",
    '"',
    "{",
    "}",
    ",",
    "1",
    "correct",
    "incorrect",
    "Wrong",
    "Explanation: ",
    '"3": "correct"',
    "\x00",
    "\\ud800",
    "9" * 5000,
)

CUTS = st.sampled_from([r"(?s).", r"\w+|\W", r"[^\n]*\n", r"[^,]*,"])
"""The units that are lost or moved: characters, words, lines, members."""


@st.composite
def damaged(draw: st.DrawFn, source: str) -> str:
    """Return `source` after some cuts, losses, repetitions, exchanges and insertions."""
    text = source
    for kind in draw(
        st.lists(st.sampled_from(["truncate", "delete", "duplicate", "swap", "insert"]), min_size=1, max_size=3)
    ):
        places = st.sampled_from([0, *(match.end() for match in re.finditer(draw(CUTS), text))])
        here, there, end = sorted((draw(places), draw(places), draw(places)))
        if kind == "truncate":
            text = text[:there]
        elif kind == "delete":
            text = text[:here] + text[there:]
        elif kind == "duplicate":
            text = text[:there] + text[here:]
        elif kind == "swap":
            text = text[:here] + text[there:end] + text[here:there] + text[end:]
        else:
            text = text[:here] + draw(st.sampled_from(PIECES)) + text[here:]
    return text


def test_the_recording_holds_every_kind() -> None:
    """A few dozen outputs, of every parser both sound and not."""
    assert len(RECORDED) >= 36
    kinds = {(entry.parser, entry.labels is None) for entry in RECORDED}
    assert kinds == {(parser, broken) for parser in PARSERS for broken in (True, False)}


@pytest.mark.parametrize("entry", [*RECORDED, *WRITTEN], ids=lambda entry: f"{entry.parser}-{entry.text[:16]!r}")
def test_recorded_outputs_parse_to_their_labels(entry: Recorded) -> None:
    """The labels that stand in the text, or a typed error."""
    critique = entry.read()
    assert (None if critique is None else [label.label for label in critique.labels]) == entry.labels


@settings(max_examples=600)
@given(st.data())
def test_damage_never_makes_a_guess(data: st.DataObject) -> None:
    """Whatever is read speaks of steps that exist, in order, up to the end or a wrong step, in words that were written."""
    entry = data.draw(st.sampled_from([*RECORDED, *WRITTEN]))
    text = data.draw(damaged(entry.text))
    critique = entry.read(text)
    if critique is None:
        return
    places = [label.index for label in critique.labels]
    assert places == list(range(1, len(places) + 1))
    assert 1 <= len(places) <= entry.steps
    assert len(places) == entry.steps or critique.labels[-1].label == "incorrect"
    wrong = [label.index for label in critique.labels if label.label == "incorrect"]
    assert critique.first_error == (wrong[0] if wrong else None)
    assert {entry.index for entry in critique.explanations} <= set(places)
    for entry in critique.explanations:
        assert all(line in _spelt(text) for line in entry.text.splitlines())
    assert Critique.model_validate_json(critique.model_dump_json()) == critique


def _spelt(text: str) -> str:
    """Return every string that a text spells, as JSON or as it stands."""
    try:
        return "\n".join(_strings(json.loads(text)))
    except ValueError:
        return text.replace("\x00", "")


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in _strings(part)]  # pyright: ignore[reportUnknownVariableType] - any JSON
    if isinstance(value, list):
        return [text for part in value for text in _strings(part)]  # pyright: ignore[reportUnknownVariableType] - any JSON
    return [value] if isinstance(value, str) else []


@settings(max_examples=600)
@given(st.data())
def test_correct_is_only_what_calls_every_step_correct(data: st.DataObject) -> None:
    """A damaged text with the verdict `correct` still says so of each step, and of nothing that it is wrong."""
    entry = data.draw(st.sampled_from([*WRITTEN, *SOUND]))
    text = data.draw(damaged(entry.text))
    critique = entry.read(text)
    if critique is None or critique.verdict != "correct":
        return
    words = [
        word.lower() for word in re.findall(r"\b(?:in)?correct\b|\bwrong\b", _judgements(entry.parser, text), re.IGNORECASE)
    ]
    assert words == ["correct"] * (entry.steps + (entry.parser == "published"))


def _judgements(parser: str, text: str) -> str:
    """Return the part of a text that judges, read in the plainest way."""
    if parser == "published":
        return "\n".join(re.findall(r"(?mi)^\W*correctness of the (?:step|final answer)\W*:(.*)$", text.replace("\x00", "")))
    document = json.loads(text)
    if parser == "all":
        return "\n".join(str(entry["label"]) for entry in document["steps"])
    return json.dumps(document if parser == "labels" else document["labels"])


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        ("all", '{"steps": ["hm", {"explanation": "No.", "label": "incorrect"}]}'),
        ("first", '{"labels": {"1": "incorrect"}, "explanation": "\\ud800"}'),
        ("first", '{"labels": {"1": "incorrect"}, "explanation": "\\u0000"}'),
        ("first", '{"labels": {"1": "incorrect"}, "explanation": ' + "7" * 5_000 + "}"),
        ("published", "Step sentence: a\nCorrectness of the step: Wrong\nExplanation: \ud800\n"),
    ],
    ids=["not-an-entry", "surrogate", "null", "digits", "published-surrogate"],
)
def test_what_no_message_can_hold_is_unparsable(parser: str, text: str) -> None:
    """A missing entry does not move the next one up; half a character and endless numbers are typed errors too."""
    assert Recorded(parser, 2, text, None).read() is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("parser", "depth", "explain"), [("labels", "labels", "first"), ("first", "explain", "first"), ("all", "explain", "all")]
)
async def test_the_service_returns_what_was_recorded(parser: str, depth: str, explain: str) -> None:
    """Behind the wire the same texts are the same critiques, and what cannot be read is `unsure`, never `correct`."""
    playing = ""

    def play(*_: object) -> str:
        return playing

    script: Script = play
    unguided = CAPABILITIES.model_copy(update={"guided": ()})
    engine = ScriptedEngine(ScriptedOptions(script=script, capabilities=unguided))

    async def open_engine() -> ScriptedEngine:
        return engine

    service = CriticService(CriticSettings.load(dialect="structured"), open_engine, b"secret")
    async with (
        serve(create_role_app(service, "critic", [router(service)])) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        for entry in (entry for entry in [*RECORDED, *WRITTEN] if entry.parser == parser):
            playing = entry.text
            body = {"problem": "x", "steps": ["a step"] * entry.steps, "depth": depth, "explain": explain}
            events = dict(await post_events(client, "/v1/critique", body))
            critique, expected = Critique.model_validate(events["critique"]), entry.read()
            assert (critique.unparsable, critique.verdict == "unsure") == (expected is None, expected is None)
            assert [(x.index, x.label) for x in critique.labels] == [
                (x.index, x.label) for x in (expected.labels if expected else ())
            ]
            assert critique.explanations == (expected.explanations if expected else ())
