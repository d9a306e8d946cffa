"""The nonce in the markers around the actor's text in the critic's prompt.

Text that pretends to end the solution cannot contain the nonce: it is an HMAC of the problem and the call's seed under a
secret of the service, and the actor never sees it. It does not depend on the solve's id, so the same problem and seed give
the same prompt.
"""

import hmac
import re
from hashlib import sha256

from services.contracts.messages import Message

NONCE_CHARS = 12


def derive_nonce(secret: bytes, messages: tuple[Message, ...], seed: int | None) -> str:
    """Return a nonce of `NONCE_CHARS` hexadecimal digits."""
    content = "\x00".join(f"{message.role}:{message.content}" for message in messages)
    return hmac.new(secret, f"{seed}\x00{content}".encode(), sha256).hexdigest()[:NONCE_CHARS]


def fenced(text: str, nonce: str) -> str:
    """Return `text` between markers, with any nonce in it removed."""
    return f"<solution {nonce}>\n{without_nonce(text, nonce)}\n</solution {nonce}>"


def without_nonce(text: str, nonce: str) -> str:
    """Return `text` with each nonce replaced by a dash, so that the parts around it cannot join into another."""
    return re.sub(re.escape(nonce), "-", text, flags=re.IGNORECASE)
