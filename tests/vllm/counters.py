"""Metric values from a service's `/metrics`."""

import httpx
from prometheus_client.parser import text_string_to_metric_families


async def metric_value(service: httpx.AsyncClient, name: str, **labels: str) -> float:
    """Return the value of a metric, summed over all labels not given. Raise `LookupError` if it does not exist."""
    text = (await service.get("/metrics")).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    values = [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]
    if not values:
        raise LookupError(f"there is no {name} {labels}")
    return sum(values)
