"""The allowance of a call: what exceeds it is refused before anything is generated, and completions are capped."""

from services.contracts.errors import Limit
from services.contracts.usage import Allowance
from services.errors import BudgetTooSmall


def completion_cap(allowance: Allowance, *, prompt_tokens: int, n: int, max_tokens: int) -> int:
    """Return the most tokens that each of `n` completions may have after a prompt of `prompt_tokens`, at most `max_tokens`.

    Raises `BudgetTooSmall` with the tokens needed when not even one token each is allowed.
    """
    if allowance.max_tokens is not None and prompt_tokens + n > allowance.max_tokens:
        raise _too_small("max_tokens", allowance.max_tokens, prompt_tokens + n)
    if allowance.max_completion_tokens is not None and n > allowance.max_completion_tokens:
        raise _too_small("max_completion_tokens", allowance.max_completion_tokens, n)
    caps = [max_tokens]
    if allowance.max_tokens is not None:
        caps.append((allowance.max_tokens - prompt_tokens) // n)
    if allowance.max_completion_tokens is not None:
        caps.append(allowance.max_completion_tokens // n)
    return min(caps)


def _too_small(name: str, value: int, needed: int) -> BudgetTooSmall:
    return BudgetTooSmall(
        f"the call needs {needed} tokens and its allowance is {value}",
        limit=Limit(name=name, value=value, needed=needed),
    )
