"""`run = start("05_sft", globals())` … `run.finish(outputs, metrics)`: what every notebook begins and ends with.

The notebook itself writes the manifest, so the runner, plain `papermill` and "Run all" in Jupyter leave the same.
"""

import fcntl
import logging
import os
import random
import resource
import time
import warnings
from pathlib import Path
from typing import Any

from kyara_utils.runs import manifest, params, source, steps
from kyara_utils.runs.env import device_and_dtype, find_root, hardware, versions, writable
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.given import parameters_of
from kyara_utils.runs.logs import show_messages

log = logging.getLogger(__name__)
_locks: dict[Path, Any] = {}  # of this process, so that a cell can be run again


def start(step: str, namespace: dict[str, Any]) -> "Run":
    """Check parameters and inputs, take the step's lock, seed, log where we are; return the `Run`."""
    show_messages()
    warnings.filterwarnings("ignore", message="IProgress not found")  # plain progress lines are what a log can keep
    root = find_root()
    chain = steps.load_steps(root)
    if step not in chain:
        raise KyaraError(f"{step} is not in params/pipeline.yaml; {params.nearest(step, chain)}")
    declared = params.declared(steps.notebook_of(root, step))
    values = parameters_of(root, step, declared, namespace)
    source.check_imported(root, chain[step].uses)
    run = Run(root, chain[step], values)
    run.report()
    return run


class Run:
    """One execution of one step: its folder, parameters, inputs and, at the end, its manifest."""

    def __init__(self, root: Path, step: steps.Step, values: dict[str, Any]):
        self.root, self.step, self.params = root, step, values
        self.recipe: str = values["recipe"]
        for need in step.needs:
            self._done(need)
        if missing := steps.missing_folder(root, step, values):
            raise KyaraError(f"{step.name}: {missing}")
        self.dir = writable(steps.step_dir(root, self.recipe, step.name), "the run folder")
        self._lock = self._take_lock()
        self.key = steps.key_parts(root, self.recipe, step, values)
        # From here on there is new, unfinished work, for which an old manifest must not vouch.
        (self.dir / manifest.NAME).unlink(missing_ok=True)
        self.started = time.time()
        self._seed(int(values.get("seed", 0)))

    def _take_lock(self):
        if self.dir in _locks:
            _locks.pop(self.dir).close()
        lock = open(self.dir / ".lock", "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise KyaraError(f"{self.dir} is in use by another run; wait for it or stop it") from error
        _locks[self.dir] = lock
        return lock

    @staticmethod
    def _seed(seed: int) -> None:
        import numpy as np

        random.seed(seed)
        np.random.seed(seed % 2**32)

    def report(self) -> None:
        """Log recipe, versions, device and dtype with the reason."""
        device, dtype, reason = device_and_dtype()
        found = versions()
        names = ("python", "torch", "transformers", "trl")
        shown = ", ".join(f"{name} {found[name]}" for name in names if name in found)
        log.info(f"{self.step.name} · recipe {self.recipe} · {shown}")
        log.info(f"device {device}, dtype {dtype}: {reason}")

    def _done(self, need: str) -> dict[str, Any]:
        done = manifest.read(steps.step_dir(self.root, self.recipe, need))
        if done is None:
            raise KyaraError(
                f"{self.step.name} needs {need}, which is not done; "
                f"run notebooks/{need}.ipynb or: python -m kyara_utils run {self.recipe} --to {need}"
            )
        return done

    def input(self, need: str, name: str) -> Path:
        """Path of the output `name` of the upstream step `need`."""
        outputs = self._done(need)["outputs"] | self._done(need)["derived"]
        if name not in outputs:
            raise KyaraError(f"{need} has no output {name}; it has {', '.join(outputs)}; rerun it")
        path = steps.step_dir(self.root, self.recipe, need) / outputs[name]["path"]
        if not path.exists():
            raise KyaraError(f"{path} is gone; rerun: python -m kyara_utils run {self.recipe} --only {need}")
        return path

    def has(self, need: str) -> bool:
        """Whether an upstream step is done; `input` raises where it is not."""
        return manifest.read(steps.step_dir(self.root, self.recipe, need)) is not None

    def manifest_of(self, need: str) -> dict[str, Any]:
        """Manifest of an upstream step."""
        return self._done(need)

    def params_of(self, need: str) -> dict[str, Any]:
        """Resolved parameters of an upstream step."""
        return self._done(need)["key"]["params"]

    def path(self, name: str) -> Path:
        """Path of an output in this step's folder."""
        return self.dir / name

    @property
    def store_path(self) -> Path:
        """The recipe's one store of LLM responses, shared by its steps."""
        return self.dir.parent / "calls.sqlite"

    def finish(
        self,
        outputs: dict[str, Path],
        metrics: dict[str, Any] | None = None,
        counts: dict[str, int] | None = None,
        calls: dict[str, Any] | None = None,
        derived: dict[str, Path] | None = None,
    ) -> dict[str, Any]:
        """Write the manifest, which makes the step count as done, and return it.

        counts: rows in, out and rejected, also by rule; derived: folders that are rebuilt from the outputs and whose
        bytes may differ between equal runs (an index), so they stay out of the downstream keys.
        """
        content = {
            "step": self.step.name,
            "recipe": self.recipe,
            "key": self.key,
            "outputs": {name: manifest.describe(Path(path), self.dir) for name, path in outputs.items()},
            "derived": {n: {"path": Path(p).relative_to(self.dir).as_posix()} for n, p in (derived or {}).items()},
            "metrics": metrics or {},
            "counts": counts or {},
            "llm": calls or {},
            "seconds": round(time.time() - self.started, 1),
            "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": versions(),
            "hardware": hardware(),
            "git": manifest.git_commit(self.root),
        }
        manifest.write_json(self.dir / manifest.NAME, content)
        self._lock.close()
        sizes = ", ".join(f"{n} {o['rows']} rows" for n, o in content["outputs"].items() if o["rows"] is not None)
        spent = f"done in {content['seconds']} s, peak {content['peak_memory_gb']} GB"
        log.info(f"{spent} · {sizes}" if sizes else spent)
        return content


os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
