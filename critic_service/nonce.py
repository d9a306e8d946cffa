"""The markers between which the actor's text stands in the critic's prompt.

Text that pretends to end the solution and to speak for the critic cannot know them: they are an HMAC of the problem and the
call's seed under a secret of the service, and the actor never sees them. They do not depend on the solve's id, so the same
problem and seed give the same prompt.
"""

import hmac
import re
from hashlib import sha256

from services.contracts.problem import Message

NONCE_CHARS = 12


def nonce(secret: bytes, turns: tuple[Message, ...], seed: int | None) -> str:
    """Hexadecimal, `NONCE_CHARS` long."""
    said = "\x00".join(f"{turn.role}:{turn.content}" for turn in turns)
    return hmac.new(secret, f"{seed}\x00{said}".encode(), sha256).hexdigest()[:NONCE_CHARS]


def fenced(text: str, mark: str) -> str:
    """`text` between its markers."""
    return f"<solution {mark}>\n{unmarked(text, mark)}\n</solution {mark}>"


def unmarked(text: str, mark: str) -> str:
    """`text` with a dash for the mark wherever it occurs; nothing that joins up again is left."""
    return re.sub(re.escape(mark), "-", text, flags=re.IGNORECASE)
