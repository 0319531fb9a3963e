"""What each process of a launch runs: `python -m kyara_utils.training.worker JOB.json`, started by `launch`."""

import json
import os
import sys
from pathlib import Path

from kyara_utils.models.precision import choose_precision
from kyara_utils.runs.files import replace_text
from kyara_utils.runs.tables import read_rows
from kyara_utils.training.fit import check_world, fit
from kyara_utils.training.launch import MEASURED, ROWS, Job
from kyara_utils.training.stage import quiet


def main(path: Path) -> None:
    """Train the job; process 0 writes what was measured beside it."""
    job = Job.from_json(path.read_text(encoding="utf-8"))
    check_world(int(os.environ.get("WORLD_SIZE", 1)), job.processes)
    import torch

    if choose_precision()[0] == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # or every process would load its model on GPU 0
    else:  # accelerate numbers the CPU of each process, and torch.load knows no "cpu:0" to restore a checkpoint to
        torch.serialization.register_package(5, lambda storage: None, _on_cpu)
    with quiet():
        measured = fit(job, read_rows(path.parent / ROWS), progress=True)
    if int(os.environ.get("RANK", 0)) == 0:
        replace_text(path.parent / MEASURED, json.dumps(measured))


def _on_cpu(storage, location: str):
    return storage if location.startswith("cpu") else None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
