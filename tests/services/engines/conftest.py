"""Fixtures of the engine tests. They share one loaded model."""

from collections.abc import AsyncIterator

import pytest

from services.engines.llama import EmbeddedEngine, EmbeddedOptions
from services.engines.models import SMOLLM2, model_path
from services.engines.tokenizers import ChatTokenizer, load_tokenizer


@pytest.fixture(scope="session")
async def embedded() -> AsyncIterator[EmbeddedEngine]:
    """Yield the embedded engine on the bundled model, with two slots."""
    engine = await EmbeddedEngine.load(EmbeddedOptions(model_path(SMOLLM2), context_length=512, slots=2))
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
def smollm2() -> ChatTokenizer:
    """Return the tokenizer of the bundled model."""
    return load_tokenizer(model_path(SMOLLM2))
