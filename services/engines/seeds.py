"""Seeds of samples, the same whatever the engine."""

from hashlib import blake2b
from secrets import randbits

from services.contracts.sampling import Sampling


def base_seed(sampling: Sampling) -> int:
    """Return the seed of sample 0, 31 bits; sample k has the k-th one after it.

    The caller's seed is hashed, so that neighbouring seeds share no samples.
    """
    if sampling.seed is None:
        return randbits(31)
    return int.from_bytes(blake2b(str(sampling.seed).encode(), digest_size=4).digest()) >> 1
