"""The seed of a generation's first sample; sample k has the next k-th one, whatever the engine."""

from hashlib import blake2b
from secrets import randbits

from services.contracts.sampling import Sampling


def base_seed(sampling: Sampling) -> int:
    """Seed of sample 0, 31 bits. Hashed, so that neighbouring seeds share no samples."""
    if sampling.seed is None:
        return randbits(31)
    return int.from_bytes(blake2b(str(sampling.seed).encode(), digest_size=4).digest()) >> 1
