"""What vLLM counts of itself, out of a service's `/metrics`."""

import httpx
from prometheus_client.parser import text_string_to_metric_families


async def counted(service: httpx.AsyncClient, name: str, **labels: str) -> float:
    """A sample's value, added up over the labels that are not given."""
    text = (await service.get("/metrics")).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]
    if not found:
        raise LookupError(f"there is no {name} {labels}")
    return sum(found)
