"""Fixtures of the engines' tests: one loaded model for all of them."""

from collections.abc import AsyncIterator

import pytest

from services.engines.llama import EmbeddedEngine, EmbeddedOptions
from services.engines.models import SMOLLM2, model_path
from services.engines.tokenizers import ChatTokenizer, load_tokenizer


@pytest.fixture(scope="session")
async def embedded() -> AsyncIterator[EmbeddedEngine]:
    """The bundled model with two slots."""
    engine = await EmbeddedEngine.load(EmbeddedOptions(model_path(SMOLLM2), context_length=512, slots=2))
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
def smollm2() -> ChatTokenizer:
    """The bundled model's tokenizer."""
    return load_tokenizer(model_path(SMOLLM2))
