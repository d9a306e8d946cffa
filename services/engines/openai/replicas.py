"""Replicas, the servers of one model, and the choice of one for each call.

Rendezvous hashing sends the calls of a session to the same replica, which has the beginnings of its prompts in its cache. A
replica with more than its share of the load comes last, and one whose circuit breaker is open gets no calls.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from math import ceil

import httpx
from prometheus_client import CollectorRegistry, Counter, Gauge

from services.engines.openai.breaker import Breaker
from services.errors import EngineFailed, InvalidRequest, Overloaded
from services.http.client import client_for

SHARE = 1.25
"""Maximum load of a replica, as a multiple of the mean (Mirrokni et al., arXiv 1608.01350)."""


@dataclass(slots=True, eq=False)
class Replica:
    """A server, its load and its health."""

    url: str
    client: httpx.AsyncClient
    breaker: Breaker = field(default_factory=Breaker)
    in_flight: int = 0

    @property
    def name(self) -> str:
        """The host and port."""
        return self.client.base_url.netloc.decode()


class Replicas:
    """The servers of a model, and their metrics."""

    def __init__(self, urls: Sequence[str], api_key: str | None = None) -> None:
        """`urls` are base URLs, and may have a path."""
        self.all = tuple(Replica(url, client_for(url)) for url in urls)
        for replica in self.all:
            if api_key:
                replica.client.headers["authorization"] = f"Bearer {api_key}"
        self.registry = CollectorRegistry()
        labels, registry = ("replica",), self.registry
        self._requests = Counter(
            "counterpoint_replica_requests_total", "Requests by how they ended.", (*labels, "outcome"), registry=registry
        )
        running = Gauge("counterpoint_replica_in_flight", "Requests running now.", labels, registry=registry)
        opened = Gauge("counterpoint_replica_breaker_open", "1 while a replica gets no calls.", labels, registry=registry)
        for replica in self.all:
            running.labels(replica.name).set_function(lambda replica=replica: replica.in_flight)
            opened.labels(replica.name).set_function(lambda replica=replica: float(replica.breaker.open))
            for outcome in ("ok", "failed", "busy", "cancelled"):
                self._requests.labels(replica.name, outcome)

    def order(self, session: str) -> list[Replica]:
        """Return the replicas that may be called now, best first."""
        allowed = [replica for replica in self.all if replica.breaker.allows()]
        total = sum(replica.in_flight for replica in allowed) + 1
        most = ceil(SHARE * total / max(1, len(allowed)))
        ranked = sorted(allowed, key=lambda replica: weight(session, replica.url), reverse=True)
        return sorted(ranked, key=lambda replica: replica.in_flight >= most)

    @contextmanager
    def using(self, replica: Replica) -> Generator[None]:
        """Count a call of a replica and record its outcome. Raises `EngineFailed` if the connection fails."""
        outcome, settle = "cancelled", replica.breaker.abandon
        replica.in_flight += 1
        replica.breaker.begin()
        try:
            yield
            outcome, settle = "ok", replica.breaker.succeed
        except httpx.TransportError as error:
            refused = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
            outcome, settle = "failed", partial(replica.breaker.fail, refused=refused)
            raise EngineFailed(f"{replica.name} cannot be reached, or broke the connection") from error
        except EngineFailed:
            outcome, settle = "failed", replica.breaker.fail
            raise
        except (Overloaded, InvalidRequest) as error:
            outcome, settle = "busy" if isinstance(error, Overloaded) else "ok", replica.breaker.succeed
            raise
        finally:
            replica.in_flight -= 1
            self._requests.labels(replica.name, outcome).inc()
            settle()

    async def close(self) -> None:
        """Close all connections."""
        for replica in self.all:
            await replica.client.aclose()


def weight(session: str, url: str) -> int:
    """Return a replica's weight for a session, which goes to the highest one. If a replica goes, only its sessions move."""
    return int.from_bytes(blake2b(f"{session}\0{url}".encode(), digest_size=8).digest())
