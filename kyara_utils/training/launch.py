"""One training job in this process, or the same job in several that a launcher starts.

A notebook cannot be one of several processes, and no CUDA call may come before they are forked. So the job goes to disk
and `accelerate launch` runs `kyara_utils.training.worker` on it, with a configuration of params/accelerate:

    python -m kyara_utils.training.launch JOB.json --config fsdp2 --processes 8
"""

import argparse
import json
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kyara_utils.models.precision import choose_precision
from kyara_utils.runs.env import find_root
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.schemas import guessed_schema
from kyara_utils.runs.tables import write_rows
from kyara_utils.training.fit import fit
from kyara_utils.training.methods import BACKENDS, need
from kyara_utils.training.settings import KINDS, Settings

JOB, ROWS, MEASURED, LOG = "job.json", "job_rows.parquet", "job_measured.json", "launch.log"
FOLDERS = ("model_dir", "out_dir", "checkpoints")
ERROR_LINE = re.compile(r"KyaraError: (.{1,500})")


@dataclass(frozen=True)
class Job:
    """One model to train, as every process of a launch reads it; `checkpoints` is the folder for those on the way."""

    model_dir: Path
    out_dir: Path
    checkpoints: Path
    settings: Settings
    dtype: str
    processes: int = 1

    def to_json(self) -> str:
        """The job as a file; folders become absolute, since a worker starts elsewhere."""
        folders = {name: str(Path(getattr(self, name)).resolve()) for name in FOLDERS}
        return json.dumps(asdict(self) | folders | {"kind": self.settings.kind}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Read what `to_json` wrote."""
        content = json.loads(text)
        settings = KINDS[content.pop("kind")](**content.pop("settings"))
        return cls(**content | {name: Path(content[name]) for name in FOLDERS}, settings=settings)


def configurations(root: Path) -> dict[str, Path]:
    """Return the launch configurations of params/accelerate by name: ddp, fsdp2, zero2, zero3."""
    return {path.stem: path for path in sorted((root / "params" / "accelerate").glob("*.yml"))}


def world_size(backend: str, processes: int) -> int:
    """Return the processes that `backend` trains in: 1, or of a launch configuration `processes` (0: one a GPU).

    Raises `KyaraError` for a back end that is neither code of ours nor a configuration, where there are no GPUs, and
    for ZeRO without DeepSpeed.
    """
    known = [*BACKENDS, *configurations(find_root())]
    if backend not in known:
        raise KyaraError(f"backend: unknown value {backend!r}; use one of {', '.join(known)}")
    if backend in BACKENDS:
        return 1
    found = processes or _gpus(backend)
    if backend.startswith("zero"):
        need("deepspeed", f"backend {backend}", "pip install --no-build-isolation '.[zero]', or set backend to fsdp2")
    return found


def run_job(job: Job, rows: list[dict], progress: bool) -> dict[str, Any]:
    """Train a job on rows of token ids and return what `fit` measured: here, or in the processes of a configuration."""
    backend = job.settings.backend
    if backend in BACKENDS:
        return fit(job, rows, progress)
    folder = Path(job.out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / ROWS, rows, guessed_schema(rows))
    (folder / JOB).write_text(job.to_json(), encoding="utf-8")
    measured = launch(folder / JOB, backend, job.processes)
    for name in (ROWS, MEASURED, JOB):
        (folder / name).unlink()
    return measured


def _gpus(backend: str) -> int:
    import torch

    if not (count := torch.cuda.device_count()):
        raise KyaraError(f"backend {backend} needs GPUs, and PyTorch sees none; set backend to trl")
    return count


def launch(job: Path, config: str, processes: int) -> dict[str, Any]:
    """Run the worker on a job file in `processes` processes and return what it measured.

    Output goes to `launch.log` beside the job. Raises `KyaraError` with the worker's own line when it failed.
    """
    job, root = Path(job).resolve(), find_root()
    if not job.is_file():
        raise KyaraError(f"no job file {job}; training with backend {config} writes one")
    (job.parent / MEASURED).unlink(missing_ok=True)
    log = job.parent / LOG
    with open(log, "w", encoding="utf-8") as file:
        line = command(configurations(root)[config], processes, job, *choose_precision()[:2])
        done = subprocess.run(line, cwd=root, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode or not (job.parent / MEASURED).is_file():
        found = ERROR_LINE.search(log.read_text(encoding="utf-8", errors="replace"))
        raise KyaraError(found[1] if found else f"{processes} processes of {config} failed; read {log}")
    return json.loads((job.parent / MEASURED).read_text(encoding="utf-8"))


def command(config: Path, processes: int, job: Path, device: str, dtype: str) -> list[str]:
    """Return the command line. On a CPU it is torchrun, since `accelerate launch --cpu` silently starts one process."""
    worker = ["-m", "kyara_utils.training.worker", str(job)]
    if device == "cpu":
        runner = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    else:
        precision = {"bfloat16": "bf16", "float32": "no"}[dtype]
        runner = ["accelerate.commands.launch", "--config_file", str(config), "--num_processes", str(processes)]
        runner += ["--mixed_precision", precision]
    return [sys.executable, "-m", *runner, *worker]


def main(arguments: list[str] | None = None) -> None:
    """Command line: run one job file again, for instance after a crash."""
    parser = argparse.ArgumentParser(prog="python -m kyara_utils.training.launch", description=__doc__.split("\n")[0])
    parser.add_argument("job", type=Path, help="job.json, in the folder of the model that is being trained")
    parser.add_argument("--config", required=True, choices=configurations(find_root()))
    parser.add_argument("--processes", type=int, default=0, help="0: one for each GPU")
    given = parser.parse_args(arguments)
    measured = launch(given.job, given.config, world_size(given.config, given.processes))
    print(
        f"{measured['processes']} processes, {measured['seconds']:.0f} s, last loss {measured['curve'][-1]['loss']:.4f}"
    )


if __name__ == "__main__":
    try:
        main()
    except KyaraError as error:
        raise SystemExit(str(error)) from error
