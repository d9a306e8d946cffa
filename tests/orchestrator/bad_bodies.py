"""Bodies that the routes of the three services refuse, with the field and the limit that each refusal names."""

import json
from typing import Any, NamedTuple

from services.contracts.base import MAX_TEXT_CHARS
from services.contracts.calls import MAX_STEPS
from services.contracts.messages import MAX_MESSAGES
from services.contracts.sampling import MAX_COMPLETION_TOKENS, MAX_SEED


class Bad(NamedTuple):
    """A body, the field that the refusal must name, and the value of the limit that it must name, if there is one."""

    body: bytes
    field: str
    limit: float | None = None


def with_problem(**fields: Any) -> bytes:
    """Return a valid body with some fields added or replaced."""
    return json.dumps({"problem": "Add 1 and 2.", **fields}).encode()


def raw(fields: str) -> bytes:
    """Return a valid body with more fields, given as JSON text."""
    return b'{"problem":"Add 1 and 2.",' + fields.encode() + b"}"


def nested(depth: int) -> str:
    """Return `best_of_n` around `best_of_n` around ... `single`, as JSON text."""
    return '{"name":"best_of_n","n":1,"inner":' * depth + '"single"' + "}" * depth


def message(content: Any, role: str = "user") -> dict[str, Any]:
    """Return a message."""
    return {"role": role, "content": content}


EVERYWHERE = {
    "empty": Bad(b"", "body"),
    "white space": Bad(b"  \n", "body"),
    "truncated": Bad(b'{"problem":', "body"),
    "null": Bad(b"null", "body"),
    "array": Bad(b"[]", "body"),
    "number": Bad(b"1", "body"),
    "string": Bad(b'"problem"', "body"),
    "true": Bad(b"true", "body"),
    "two objects": Bad(with_problem() * 2, "body"),
    "not utf-8": Bad(b'{"problem":"\xff"}', "body"),
    "latin-1": Bad(b'{"problem":"\xe9"}', "body"),
    "a raw null byte": Bad(b'{"problem":"a\x00b"}', "body"),
    "a null byte": Bad(b'{"problem":"a\\u0000b"}', "problem"),
    "half a surrogate pair": Bad(b'{"problem":"\\ud800"}', "problem"),
    "half a surrogate pair as a name": Bad(raw('"\\udfff":1'), "body"),
    "lists of lists": Bad(raw('"x":' + "[" * 100_000 + "]" * 100_000), "body"),
    "thousands of digits": Bad(raw('"sampling":{"seed":' + "9" * 5_000 + "}"), "body"),
    "neither a problem nor messages": Bad(b"{}", "body"),
    "a problem and messages": Bad(with_problem(messages=[message("x")]), "body"),
    "a problem and messages, both null": Bad(b'{"problem":null,"messages":null}', "body"),
    "an empty problem": Bad(b'{"problem":""}', "problem", 1),
    "a blank problem": Bad(b'{"problem":" \\n\\t"}', "problem"),
    "a number for a problem": Bad(b'{"problem":1}', "problem"),
    "a long problem": Bad(with_problem(problem="x" * (MAX_TEXT_CHARS + 1)), "problem", MAX_TEXT_CHARS),
    "the last of duplicate names counts": Bad(b'{"problem":"x","problem":""}', "problem", 1),
    "no messages": Bad(b'{"messages":[]}', "messages", 1),
    "many messages": Bad(json.dumps({"messages": [message("x")] * 257}).encode(), "messages", MAX_MESSAGES),
    "no message of a user": Bad(json.dumps({"messages": [message("x", "system")]}).encode(), "body"),
    "a blank question": Bad(json.dumps({"messages": [message(" ")]}).encode(), "body"),
    "an unknown role": Bad(json.dumps({"messages": [message("x", "wizard")]}).encode(), "messages.0.role"),
    "a list for a content": Bad(json.dumps({"messages": [message([])]}).encode(), "messages.0.content"),
    "messages that are text": Bad(b'{"messages":"x"}', "messages"),
    "an unknown field": Bad(with_problem(colour="red"), "colour"),
    "a temperature that is too low": Bad(with_problem(sampling={"temperature": -0.1}), "sampling.temperature", 0),
    "a temperature that is too high": Bad(with_problem(sampling={"temperature": 2.1}), "sampling.temperature", 2),
    "a temperature that is not a number": Bad(raw('"sampling":{"temperature":NaN}'), "sampling.temperature"),
    "an infinite temperature": Bad(raw('"sampling":{"temperature":Infinity}'), "sampling.temperature"),
    "a top_p of minus infinity": Bad(raw('"sampling":{"top_p":-Infinity}'), "sampling.top_p"),
    "a temperature beyond a double": Bad(raw('"sampling":{"temperature":1e999}'), "sampling.temperature"),
    "a top_p of zero": Bad(with_problem(sampling={"top_p": 0}), "sampling.top_p", 0),
    "a negative seed": Bad(with_problem(sampling={"seed": -1}), "sampling.seed", 0),
    "a huge seed": Bad(with_problem(sampling={"seed": 10**400}), "sampling.seed", MAX_SEED),
    "no completion": Bad(with_problem(sampling={"max_tokens": 0}), "sampling.max_tokens", 1),
    "a huge completion": Bad(with_problem(sampling={"max_tokens": 10**9}), "sampling.max_tokens", MAX_COMPLETION_TOKENS),
    "an unknown sampling": Bad(with_problem(sampling={"top_k": 5}), "sampling.top_k"),
    "sampling that is text": Bad(with_problem(sampling="greedy"), "sampling"),
}
"""Bodies that every route with a problem refuses."""

SOLVE = {
    "an unknown strategy": Bad(with_problem(strategy="nonsense"), "strategy"),
    "half a surrogate pair": Bad(raw('"strategy":"\\ud800"'), "strategy"),
    "a number for a strategy": Bad(with_problem(strategy=3), "strategy"),
    "a list of strategies": Bad(with_problem(strategy=["single"]), "strategy"),
    "a strategy without a name": Bad(with_problem(strategy={"n": 2}), "strategy"),
    "a parameter of another strategy": Bad(with_problem(strategy={"name": "single", "n": 2}), "strategy.single.n"),
    "no rounds": Bad(with_problem(strategy={"name": "refine", "rounds": 0}), "strategy.refine.rounds", 1),
    "many rounds": Bad(with_problem(strategy={"name": "refine", "rounds": 33}), "strategy.refine.rounds", 32),
    "accepting above 1": Bad(with_problem(strategy={"name": "refine", "accept_at": 1.1}), "strategy.refine.accept_at", 1),
    "accepting at NaN": Bad(raw('"strategy":{"name":"refine","accept_at":NaN}'), "strategy.refine.accept_at"),
    "an unknown depth": Bad(with_problem(strategy={"name": "refine", "gate_depth": "deep"}), "strategy.refine.gate_depth"),
    "an n of zero": Bad(with_problem(strategy={"name": "best_of_n", "n": 0}), "strategy.best_of_n.n", 1),
    "an n above its limit": Bad(with_problem(strategy={"name": "best_of_n", "n": 65}), "strategy.best_of_n.n", 64),
    "an n that is a fraction": Bad(with_problem(strategy={"name": "best_of_n", "n": 1.5}), "strategy.best_of_n.n"),
    "an unknown selection": Bad(with_problem(strategy={"name": "best_of_n", "select": "x"}), "strategy.best_of_n.select"),
    "an unknown inner strategy": Bad(with_problem(strategy={"name": "best_of_n", "inner": "x"}), "strategy.best_of_n.inner"),
    "no inner strategy": Bad(with_problem(strategy={"name": "best_of_n", "inner": None}), "strategy.best_of_n.inner"),
    "too broad": Bad(raw(f'"strategy":{nested(2).replace(":1", ":60")}'), "strategy", 256),
    "a level too deep": Bad(raw(f'"strategy":{nested(3)}'), "strategy", 3),
    "a hundred levels deep": Bad(raw(f'"strategy":{nested(100)}'), "strategy", 3),
    "a thousand levels deep": Bad(raw(f'"strategy":{nested(1_000)}'), "body"),
    "ten thousand levels deep": Bad(raw(f'"strategy":{nested(10_000)}'), "body"),
    "no tokens": Bad(with_problem(budget={"max_tokens": 0}), "budget.max_tokens", 1),
    "negative tokens": Bad(with_problem(budget={"max_tokens": -1}), "budget.max_tokens", 1),
    "absurd tokens": Bad(with_problem(budget={"max_tokens": 10**30}), "budget.max_tokens", 10_000_000),
    "half a token": Bad(with_problem(budget={"max_tokens": 0.5}), "budget.max_tokens"),
    "no completion tokens": Bad(with_problem(budget={"max_completion_tokens": 0}), "budget.max_completion_tokens", 1),
    "no calls": Bad(with_problem(budget={"max_calls": 0}), "budget.max_calls", 1),
    "absurd calls": Bad(with_problem(budget={"max_calls": 10_001}), "budget.max_calls", 10_000),
    "no seconds": Bad(with_problem(budget={"max_seconds": 0}), "budget.max_seconds", 0),
    "absurd seconds": Bad(with_problem(budget={"max_seconds": 1e9}), "budget.max_seconds", 3_600),
    "infinite seconds": Bad(raw('"budget":{"max_seconds":Infinity}'), "budget.max_seconds"),
    "a cost without prices": Bad(with_problem(budget={"max_cost": 1}), "budget.max_cost"),
    "no cost": Bad(with_problem(budget={"max_cost": 0}), "budget.max_cost", 0),
    "absurd cost": Bad(with_problem(budget={"max_cost": 1e30}), "budget.max_cost", 1_000_000),
    "a role's limit": Bad(with_problem(budget={"actor": {"max_calls": 0}}), "budget.actor.max_calls", 1),
    "a role's seconds": Bad(with_problem(budget={"critic": {"max_seconds": 1}}), "budget.critic.max_seconds"),
    "an unknown limit": Bad(with_problem(budget={"max_flops": 1}), "budget.max_flops"),
    "a budget that is text": Bad(with_problem(budget="plenty"), "budget"),
    "a budget that is null": Bad(with_problem(budget=None), "budget"),
    "a stream that is text": Bad(with_problem(stream="maybe"), "stream"),
    "an unknown trace": Bad(with_problem(trace="all"), "trace"),
}

DRAFT = {
    "no samples": Bad(with_problem(n=0), "n", 1),
    "many samples": Bad(with_problem(n=65), "n", 64),
    "an empty allowance": Bad(with_problem(allowance={"max_tokens": 0}), "allowance.max_tokens", 1),
    "an unknown allowance": Bad(with_problem(allowance={"max_calls": 1}), "allowance.max_calls"),
    "many stops": Bad(with_problem(sampling={"stop": ["x"] * 9}), "sampling.stop", 8),
    "an empty stop": Bad(with_problem(sampling={"stop": [""]}), "sampling.stop.0", 1),
    "a strategy": Bad(with_problem(strategy="single"), "strategy"),
}

REFINE = {
    "no solution": Bad(with_problem(), "solution"),
    "a long solution": Bad(with_problem(solution="x" * (MAX_TEXT_CHARS + 1)), "solution", MAX_TEXT_CHARS),
    "a negative number of steps to keep": Bad(with_problem(solution="x", keep_steps=-1), "keep_steps", 0),
    "too many steps to keep": Bad(with_problem(solution="x", keep_steps=513), "keep_steps", MAX_STEPS),
    "a critique that is text": Bad(with_problem(solution="x", critique="bad"), "critique"),
    "a critique without a verdict": Bad(with_problem(solution="x", critique={"depth": "labels"}), "critique.verdict"),
    "an error before the first step": Bad(
        with_problem(solution="x", critique={"depth": "labels", "verdict": "incorrect", "first_error": 0}),
        "critique.first_error",
        1,
    ),
}

CRITIQUE = {
    "no steps": Bad(with_problem(), "steps"),
    "an empty solution": Bad(with_problem(steps=[]), "steps", 1),
    "too many steps": Bad(with_problem(steps=["x"] * (MAX_STEPS + 1)), "steps", MAX_STEPS),
    "a blank step": Bad(with_problem(steps=["x", " "]), "steps.1"),
    "a step that is null": Bad(with_problem(steps=[None]), "steps.0"),
    "a long step": Bad(with_problem(steps=["x" * (MAX_TEXT_CHARS + 1)]), "steps.0", MAX_TEXT_CHARS),
    "an unknown depth": Bad(with_problem(steps=["x"], depth="deep"), "depth"),
    "an unknown explanation": Bad(with_problem(steps=["x"], explain="none"), "explain"),
}

ROUTES = {"/solve": (0, SOLVE), "/v1/draft": (1, DRAFT), "/v1/refine": (1, REFINE), "/v1/critique": (2, CRITIQUE)}
"""Each route with the index of its service and the bodies that only this route refuses."""

NEEDS: dict[str, dict[str, Any]] = {
    "/v1/refine": {"solution": "Step 1: 1 + 2 = 4"},
    "/v1/critique": {"steps": ["Step 1: 1 + 2 = 4"]},
}
"""The fields that a route requires in addition to a problem."""


def completed(path: str, bad: Bad) -> Bad:
    """Return a bad body with the fields that the route requires, so that nothing else is wrong with it."""
    needs = json.dumps(NEEDS.get(path, {}))[1:-1].encode()
    return bad._replace(body=bad.body.replace(b'{"problem"', b"{" + needs + b', "problem"', 1)) if needs else bad
