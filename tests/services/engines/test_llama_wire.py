"""The wire format of llama.cpp's endpoint, tested without loading a model."""

import pytest

from services.contracts.sampling import Sampling
from services.engines.generation import base_seed
from services.engines.llama import wire
from services.engines.protocol import Generation, Guide
from services.engines.testing import user_prompt
from services.errors import EngineFailed, InvalidRequest


def test_only_temperature_and_top_p_shape_sampling() -> None:
    """Only `temperature` and `top_p` shape the distribution, and a completion ends at the end of the context."""
    generation = Generation(user_prompt("x"), Sampling(temperature=0.3, top_p=0.9, max_tokens=100, stop=("a",)))
    fields = wire.request(generation, [1, 2], most=8).fields
    assert fields["samplers"] == ["temperature", "top_p"]
    assert (fields["temperature"], fields["top_p"], fields["n_predict"], fields["stop"]) == (0.3, 0.9, 8, ["a"])


def test_each_sample_has_its_own_seed() -> None:
    """Sample k has the same seed however samples are grouped, and adjacent request seeds share no sample seed."""
    one, two = (wire.request(Generation(user_prompt("x"), Sampling(seed=seed)), [1], most=8) for seed in (1, 2))
    assert one.samples(range(2, 4))["seed"] == one.seed + 2
    assert one.samples(range(2, 4))["n"] == 2
    assert abs(one.seed - two.seed) > 64
    assert base_seed(Sampling()) != base_seed(Sampling())


def test_choices_are_escaped() -> None:
    """Quotes, backslashes and line breaks in a choice are escaped."""
    assert wire.choice_grammar(['a"b', "c\\d\n"]) == r'root ::= "a\"b" | "c\\d\n"'


@pytest.mark.parametrize("guide", [Guide("regex", "a+"), Guide("choice", "a"), Guide("json", ("{}",)), Guide("json", "{")])
def test_an_unsupported_guide_is_refused(guide: Guide) -> None:
    """An unknown kind, a value of the wrong shape, or a schema that is not JSON raises an error."""
    with pytest.raises(InvalidRequest):
        wire.guided(guide)


@pytest.mark.parametrize(("code", "kind"), [(400, InvalidRequest), (500, EngineFailed)])
def test_statuses_map_to_error_classes(code: int, kind: type[Exception]) -> None:
    """A 400 from llama.cpp is the caller's error. Every other status is the engine's."""
    assert isinstance(wire.failure({"error": {"code": code, "message": "no"}}), kind)
    assert wire.failure({"choices": []}) is None
