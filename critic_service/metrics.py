"""The critic's metrics: those of any role, and what it says."""

from typing import get_args

from services.contracts.critique import DEPTHS, Critique, Verdict
from services.metrics import RoleMetrics


class CriticMetrics(RoleMetrics):
    """What a critic measures of its critiques."""

    def __init__(self) -> None:
        super().__init__(["critique"])
        self.unparsable = self._counter("critic_unparsable", "Critiques that could not be read.", depth=DEPTHS)
        self.verdicts = self._counter(
            "critic_verdicts", "Critiques by depth and verdict.", depth=DEPTHS, verdict=get_args(Verdict)
        )

    def told(self, critique: Critique) -> None:
        """A critique is complete."""
        self.verdicts.labels(critique.depth, critique.verdict).inc()
        if critique.unparsable:
            self.unparsable.labels(critique.depth).inc()
