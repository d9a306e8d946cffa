"""How large a call may be under what is left: pure functions over the tree.

A prompt's length is known before the call only as a bound that it cannot exceed and as a likely length; the role
service counts it exactly and refuses what does not fit. The bound decides while there is plenty; near a limit the likely
length decides how many samples of which length are asked for. `n` is reduced before completions are shortened.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestrator.budget.tree import Charge, LimitReached, Node
from services.contracts.solve import Role


@dataclass(frozen=True, slots=True)
class Want:
    """What a call would like to spend, in tokens.

    The prompt has at most `bound` tokens, as a rule `likely`. Each of `n` completions has at most `completion`. `judge`
    is what judging one of them will take beside the completion itself, which it reads `reads` times over; it is reserved
    with the call. `strict` forbids the call where that cannot be reserved, or where a completion has to be shorter than
    `least`.
    """

    bound: int
    likely: int
    completion: int
    n: int = 1
    judge: "Want | None" = None
    strict: bool = False
    reads: float = 1.0
    least: int = 1


@dataclass(frozen=True, slots=True)
class Fit:
    """A size at which a call fits: what the call holds, and what is reserved to judge each of its samples."""

    n: int
    call: Charge
    judge: Charge | None = None


Roles = Mapping[Role, Node]

KEPT_BESIDE_JUDGEMENT = 0.5
"""The share of a completion's greatest length that reserving its judgement must leave."""


def whole(roles: Roles, role: Role, want: Want) -> Fit | None:
    """All that is wanted, or None."""
    return _fit(roles, role, want)


def shrunk(roles: Roles, role: Role, want: Want) -> Fit | None:
    """The most that fits: fewer samples first, then shorter ones; last, whatever is left. None if that is no call."""
    tight = replace(want, bound=want.likely)
    fewer = (_fit(roles, role, replace(tight, n=n)) for n in range(want.n, 0, -1))
    fit = next((fit for fit in fewer if fit), None) or _longest(roles, role, tight)
    if not want.strict:
        alone = _longest(roles, role, replace(tight, judge=None)) if fit is None or want.judge else None
        fit = _more_useful(fit, alone) or _rest(roles, role)
    return fit and _with_slack(roles, role, want, fit)


def _more_useful(judged: Fit | None, alone: Fit | None) -> Fit | None:
    """A call with its judgement reserved, unless that takes most of its completion: half an answer needs no judgement."""
    if judged is None or alone is None:
        return judged or alone
    return alone if judged.call.completion_tokens < KEPT_BESIDE_JUDGEMENT * alone.call.completion_tokens else judged


def exhausted(roles: Roles, role: Role, want: Want) -> LimitReached:
    """The error that names the limit under which not even the shortest useful completion fits."""
    call = _call(roles[role], want.likely, 1, want.least)
    for node in roles[role].lineage():
        limit = node.lacking(call)
        if limit is not None:
            return node.limit_reached(limit, call.by_limit()[limit])
    judge = _judge(roles, want, want.least) or Charge()
    for node in roles["critic"].lineage():
        both = judge if node.parent and role != "critic" else judge + call
        limit = node.lacking(both)
        if limit is not None:
            return node.limit_reached(limit, both.by_limit()[limit])
    raise AssertionError("a call that fits under every limit was refused")


def _call(node: Node, prompt: int, n: int, completion: int) -> Charge:
    generated = n * completion
    return Charge(prompt + generated, generated, 1, node.price.at_most(prompt + generated, generated))


def _judge(roles: Roles, want: Want, completion: int) -> Charge | None:
    """Judging one sample: its text becomes part of the critic's prompt."""
    if want.judge is None:
        return None
    return _call(roles["critic"], want.judge.likely + math.ceil(want.judge.reads * completion), 1, want.judge.completion)


def _fit(roles: Roles, role: Role, want: Want) -> Fit | None:
    """`want` with a prompt of its bound, if it fits."""
    judge = _judge(roles, want, want.completion)
    fit = Fit(want.n, _call(roles[role], want.bound, want.n, want.completion), judge)
    return fit if _fits(roles, role, fit) else None


def _fits(roles: Roles, role: Role, fit: Fit) -> bool:
    judged = fit.judge.times(fit.n) if fit.judge else Charge()
    root = roles[role].parent
    return (
        roles[role].lacking(fit.call) is None
        and roles["critic"].lacking(judged + fit.call if role == "critic" else judged) is None
        and (root is None or root.lacking(fit.call + judged) is None)
    )


def _longest(roles: Roles, role: Role, want: Want) -> Fit | None:
    """One sample of the greatest length that fits (bisection: a longer one needs more of everything)."""
    best, low, high = None, want.least, want.completion
    while low <= high:
        middle = (low + high) // 2
        fit = _fit(roles, role, replace(want, n=1, completion=middle))
        if fit is None:
            high = middle - 1
        else:
            best, low = fit, middle + 1
    return best


def _rest(roles: Roles, role: Role) -> Fit | None:
    """One completion token after a prompt of whatever is left; the role service knows whether that is enough."""
    node = roles[role]
    tokens = min(each.left("max_tokens") for each in node.lineage())
    dearest = max(node.price.prompt, node.price.completion)
    if dearest > 0:
        tokens = min(tokens, min(each.left("max_cost") for each in node.lineage()) / dearest)
    if math.isinf(tokens) or tokens < 2:  # noqa: PLR2004 - a token of prompt and one of completion
        return None
    fit = Fit(1, _call(node, math.floor(tokens) - 1, 1, 1))
    return fit if _fits(roles, role, fit) else None


def _with_slack(roles: Roles, role: Role, want: Want, fit: Fit) -> Fit:
    """Room for a prompt longer than likely, up to its bound, out of what is left beside the fit."""
    reserved = (fit.judge.times(fit.n) if fit.judge else Charge()).tokens
    spare = roles[role].left("max_tokens") - fit.call.tokens
    root = roles[role].parent
    if root is not None:
        spare = min(spare, root.left("max_tokens") - fit.call.tokens - reserved)
    prompt = fit.call.tokens - fit.call.completion_tokens
    slack = int(max(0, min(want.bound - prompt, spare)))
    completion = fit.call.completion_tokens // fit.n
    wider = Fit(fit.n, _call(roles[role], prompt + slack, fit.n, completion), fit.judge)
    return wider if _fits(roles, role, wider) else fit
