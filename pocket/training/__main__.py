"""Training of the pair from scratch, with its figures: `python -m pocket.training`, under two hours on two cores.

Actor and critic train in parallel, one thread each. The argument `finish` skips the training stages: the models are rounded
to the precision in which they are shipped, the critic is calibrated on the development split, and both are written to
`pocket/weights` and measured on the test split.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from pocket.problems import distinct
from pocket.training.export import export, rounded
from pocket.training.measure import Bench, Calibration, calibrate, outcomes, summary
from pocket.training.model import Model
from pocket.training.stages import RUN
from pocket.training.train import load

WEIGHTS = Path(__file__).parents[1] / "weights"
PROBLEMS, SEED = 1000, 41


def _parallel(module: str, *lanes: Sequence[str]) -> None:
    """Run lanes of stages in parallel, one process each. Exits if a stage fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module]
    processes = [subprocess.Popen([*command, *lane], env=environment) for lane in lanes]  # noqa: S603 - this program
    if any([process.wait() for process in processes]):  # noqa: C419 - a list, to wait for all
        raise SystemExit("a stage has failed")


def finish() -> None:
    """Calibrate and export the models, measure them in two processes, and print the figures."""
    actor, critic = models()
    calibration = calibrate(Bench(actor, critic, Calibration(), distinct(SEED, "dev", PROBLEMS // 2)))
    for role, model in (("actor", actor), ("critic", critic)):
        export(model, WEIGHTS / role)
    calibration.save(WEIGHTS / "critic")
    _parallel("pocket.training", ("measure", "0"), ("measure", "1"))
    figures = summary([json.loads(_part(half).read_text()) for half in range(2)])
    (WEIGHTS / "figures.json").write_text(f"{json.dumps(figures, indent=2)}\n")
    for name, row in figures.items():
        print(f"{name:<28}{json.dumps(row)}")


def measure(half: int) -> None:
    """Measure the models on every other test problem."""
    bench = Bench(*models(), Calibration.load(WEIGHTS / "critic"), distinct(SEED, "test", PROBLEMS)[half::2])
    _part(half).write_text(json.dumps(outcomes(bench)))


def models() -> tuple[Model, Model]:
    """Return the finished actor and critic, as they are shipped."""
    actor, critic = (rounded(load(RUN / f"{stage}.pt")) for stage in ("actor", "critic-unfinished"))
    return actor, critic


def _part(half: int) -> Path:
    return RUN / f"outcomes-{half}.json"


def main() -> None:
    """Run all stages, or the one that the arguments name."""
    torch.set_num_threads(1)
    match sys.argv[1:]:
        case ["measure", half]:
            measure(int(half))
        case ["finish"]:
            finish()
        case _:
            lanes = (("actor-base", "actor-base-writes", "actor", "actor-writes"), ("critic-base", "critic"))
            _parallel("pocket.training.stages", *lanes)
            _parallel("pocket.training.stages", ("critic-own",), ("critic-own-too",))
            _parallel("pocket.training.stages", ("critic-unfinished",), ("critic-unfinished-too",))
            finish()


if __name__ == "__main__":
    main()
