"""vLLM's own counters, from a service's `/metrics`."""

import httpx
from prometheus_client.parser import text_string_to_metric_families


async def counted(service: httpx.AsyncClient, name: str, **labels: str) -> float:
    """Return a sample's value, added up over the labels that are not given. Raises `LookupError`."""
    text = (await service.get("/metrics")).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    values = [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]
    if not values:
        raise LookupError(f"there is no {name} {labels}")
    return sum(values)
