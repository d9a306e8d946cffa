"""Sizing of a call under what is left of the budget: pure functions over the tree.

Before a call, the length of its prompt is known only as an upper bound and as an expectation. The role service counts it
exactly and refuses a call that does not fit. While there is plenty, the bound decides. Near a limit the expectation decides
how many samples of which length are requested: `n` is reduced before completions are shortened.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestrator.budget.limits import BudgetNode, Charge, LimitReached
from services.contracts.solve import Role


@dataclass(frozen=True, slots=True)
class CallSize:
    """The size of a call, in tokens: its prompt, and `n` completions of at most `max_completion` each.

    `judgement` is the size of judging one completion, without the completion itself, of which each token counts
    `reads` times in the prompt of that judgement; it is reserved together with the call. With `require_judgement` there is
    no call unless the judgement can be reserved and a completion may have `min_completion` tokens.
    """

    max_prompt: int
    expected_prompt: int
    max_completion: int
    n: int = 1
    judgement: "CallSize | None" = None
    require_judgement: bool = False
    reads: float = 1.0
    min_completion: int = 1


@dataclass(frozen=True, slots=True)
class SizedCall:
    """A call that fits: the number of samples, the charge it holds, and the charge reserved to judge each sample."""

    n: int
    call: Charge
    judgement: Charge | None = None

    @property
    def reserved(self) -> Charge:
        """The charge reserved to judge all samples."""
        return self.judgement.times(self.n) if self.judgement else Charge()


Roles = Mapping[Role, BudgetNode]

MIN_COMPLETION_SHARE = 0.5
"""The share of a completion's greatest length that reserving its judgement must leave."""


def full_size(roles: Roles, role: Role, size: CallSize) -> SizedCall | None:
    """Return the call at its full size, with a prompt of its bound; None if that does not fit."""
    call = _charge(roles[role], size.max_prompt, size.n, size.max_completion)
    sized = SizedCall(size.n, call, _judgement(roles, size, size.max_completion))
    return sized if _fits(roles, role, sized) else None


def reduced_size(roles: Roles, role: Role, size: CallSize) -> SizedCall | None:
    """Return the largest call that fits, or None: with fewer samples, else a shorter one, else with whatever is left."""
    expected = replace(size, max_prompt=size.expected_prompt)
    fewer = (full_size(roles, role, replace(expected, n=n)) for n in range(size.n, 0, -1))
    sized = next((call for call in fewer if call), None) or _longest(roles, role, expected)
    if not size.require_judgement:
        alone = _longest(roles, role, replace(expected, judgement=None)) if sized is None or size.judgement else None
        sized = _more_useful(sized, alone) or _rest(roles, role)
    return sized and _with_slack(roles, role, size, sized)


def _more_useful(judged: SizedCall | None, alone: SizedCall | None) -> SizedCall | None:
    """Return the call with its judgement reserved, unless the reservation takes most of its completion."""
    if judged is None or alone is None:
        return judged or alone
    return alone if judged.call.completion_tokens < MIN_COMPLETION_SHARE * alone.call.completion_tokens else judged


def limit_error(roles: Roles, role: Role, size: CallSize) -> LimitReached:
    """Return the error that names the limit under which not even the shortest useful completion fits."""
    call = _charge(roles[role], size.expected_prompt, 1, size.min_completion)
    for node in roles[role].lineage():
        limit = node.exceeded_by(call)
        if limit is not None:
            return node.limit_reached(limit, call.under(limit))
    judgement = _judgement(roles, size, size.min_completion) or Charge()
    for node in roles["critic"].lineage():
        both = judgement if node.parent and role != "critic" else judgement + call
        limit = node.exceeded_by(both)
        if limit is not None:
            return node.limit_reached(limit, both.under(limit))
    raise AssertionError("a call that fits under every limit was refused")


def _charge(node: BudgetNode, prompt: int, n: int, completion: int) -> Charge:
    generated = n * completion
    return Charge(prompt + generated, generated, 1, node.price.at_most(prompt + generated, generated))


def _judgement(roles: Roles, size: CallSize, completion: int) -> Charge | None:
    """Return the charge of judging one sample, whose text becomes part of the critic's prompt."""
    judgement = size.judgement
    if judgement is None:
        return None
    prompt = judgement.expected_prompt + math.ceil(judgement.reads * completion)
    return _charge(roles["critic"], prompt, 1, judgement.max_completion)


def _fits(roles: Roles, role: Role, sized: SizedCall) -> bool:
    reserved, root = sized.reserved, roles[role].parent
    return (
        roles[role].exceeded_by(sized.call) is None
        and roles["critic"].exceeded_by(reserved + sized.call if role == "critic" else reserved) is None
        and (root is None or root.exceeded_by(sized.call + reserved) is None)
    )


def _longest(roles: Roles, role: Role, size: CallSize) -> SizedCall | None:
    """Return one sample of the greatest length that fits, by bisection: a longer one needs more of everything."""
    best, low, high = None, size.min_completion, size.max_completion
    while low <= high:
        middle = (low + high) // 2
        sized = full_size(roles, role, replace(size, n=1, max_completion=middle))
        if sized is None:
            high = middle - 1
        else:
            best, low = sized, middle + 1
    return best


def _rest(roles: Roles, role: Role) -> SizedCall | None:
    """Return a call of one completion token and whatever is left as its prompt; the role service knows if that suffices."""
    node = roles[role]
    tokens = min(each.left("max_tokens") for each in node.lineage())
    highest = max(node.price.prompt, node.price.completion)
    if highest > 0:
        tokens = min(tokens, min(each.left("max_cost") for each in node.lineage()) / highest)
    if math.isinf(tokens) or tokens < 2:  # noqa: PLR2004 - one token of prompt and one of completion
        return None
    sized = SizedCall(1, _charge(node, math.floor(tokens) - 1, 1, 1))
    return sized if _fits(roles, role, sized) else None


def _with_slack(roles: Roles, role: Role, size: CallSize, sized: SizedCall) -> SizedCall:
    """Return the call with room for a prompt that is longer than expected, as far as its bound and the budget allow."""
    spare = roles[role].left("max_tokens") - sized.call.tokens
    root = roles[role].parent
    if root is not None:
        spare = min(spare, root.left("max_tokens") - sized.call.tokens - sized.reserved.tokens)
    prompt = sized.call.tokens - sized.call.completion_tokens
    slack = int(max(0, min(size.max_prompt - prompt, spare)))
    completion = sized.call.completion_tokens // sized.n
    wider = SizedCall(sized.n, _charge(roles[role], prompt + slack, sized.n, completion), sized.judgement)
    return wider if _fits(roles, role, wider) else sized
