"""Which dialect a critic speaks: what turns a case and a depth into a question."""

from collections.abc import Callable

from critic_service.dialects import Case, Question, question
from critic_service.pocket import PocketCritic
from pocket.calibration import Calibration
from services.contracts.critique import Depth
from services.engines.models import tokenizer_path
from services.settings import RoleSettings

Ask = Callable[[Case, Depth, str, bool], Question]
"""The question for a case, a depth, what to explain, and whether the engine can read a given answer."""


def ask_for(settings: RoleSettings) -> Ask:
    """The dialect of the settings, with the calibration that lies beside a pocket critic. Raises `OSError`, `ValueError`."""
    if settings.spoken != "pocket":
        return lambda case, depth, explain, _scores: question(settings.spoken, case, depth, explain)
    directory = tokenizer_path(settings.model)
    pocket = PocketCritic(Calibration.load(directory) if directory else Calibration())
    return lambda case, depth, explain, scores: pocket.question(case, depth, explain, scores=scores)
