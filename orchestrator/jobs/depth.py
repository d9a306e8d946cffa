"""How many jobs there are: three counts of the docket, whatever is in it."""

import math
from typing import Any, cast

from docket import Docket
from redis.exceptions import RedisError, ResponseError


async def depth(docket: Docket) -> tuple[float, float]:
    """Jobs that wait for a worker, and jobs that workers look after; NaN where the docket cannot be reached."""
    try:
        async with docket.redis() as client:
            redis = cast("Any", client)  # both kinds of client
            known = await redis.xlen(docket.stream_key) + await redis.zcard(docket.queue_key)
            taken = await _taken(redis, docket)
    except (RedisError, OSError):
        return math.nan, math.nan
    return float(max(0, known - taken)), float(taken)


async def _taken(redis: Any, docket: Docket) -> int:  # noqa: ANN401 - both kinds of client
    try:
        return (await redis.xpending(docket.stream_key, docket.worker_group_name))["pending"]
    except ResponseError:
        return 0  # no worker has ever been there
