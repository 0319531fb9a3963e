"""One notebook through papermill, in a fresh kernel, with a live line for people and for logs."""

import os
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kyara_utils.runs import manifest, params, steps
from kyara_utils.runs.env import runs_dir, writable
from kyara_utils.runs.errors import KyaraError


class Line:
    """One line per step: redrawn on a terminal, reprinted every `interval` seconds in a log file."""

    def __init__(self, step: str, cells: int, interval: float = 20.0, stream=None):
        self.step, self.cells, self.stream = step, cells, stream or sys.stdout
        self.terminal = self.stream.isatty()
        self.interval = 1.0 if self.terminal else interval
        self.started, self.cell, self.heading = time.time(), 0, ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> "Line":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _tick(self) -> None:
        with suppress(BrokenPipeError):  # the main thread meets it too, and ends quietly
            while not self._stop.wait(self.interval):
                self.show()

    def show(self, ending: str = "") -> None:
        """Print the state; `ending` closes the line for good."""
        state = ending or f"cell {self.cell}/{self.cells} {self.heading}"
        text = f"{self.step:<24} {time.time() - self.started:6.0f} s  {state}"
        if self.terminal:
            self.stream.write(f"\r\033[K{text[:150]}" + ("\n" if ending else ""))
        else:
            self.stream.write(text + "\n")
        self.stream.flush()


def execute(root: Path, recipe: str, step: steps.Step, values: dict[str, Any]) -> Path:
    """Run one notebook in a fresh kernel; return the executed copy. Only a fresh manifest counts as success."""
    from papermill.exceptions import PapermillExecutionError

    folder = writable(runs_dir(root) / recipe / "notebooks", "the run folder")
    executed = folder / f"{step.name}.ipynb"
    source = steps.notebook_of(root, step.name)
    done = steps.step_dir(root, recipe, step.name)
    before = _stamp(done)  # the notebook withdraws an earlier manifest once its inputs are right; it is no success here
    with Line(step.name, len(params.load_notebook(source)["cells"])) as line, _stderr_to(executed.with_suffix(".log")):
        try:
            _papermill(source, executed, values, root, line)
        except PapermillExecutionError as error:
            line.show(f"failed in cell {error.cell_index}")
            text = error.evalue if error.ename == "KyaraError" else f"{error.ename}: {error.evalue}"
            raise KyaraError(f"{step.name}: {text}\n{executed}") from None
        except RuntimeError as error:  # nbclient's DeadKernelError: killed, most often for memory
            line.show("kernel died")
            raise KyaraError(
                f"{step.name}: the kernel died ({error}); most often memory: "
                f"lower the step's batch or row counts\n{executed}"
            ) from None
        if _stamp(done) in (None, before):
            line.show("no manifest")
            raise KyaraError(f"{step.name} ended without a manifest, so it is not done; see\n{executed}")
        line.show("done")
    return executed


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Which manifest lies in a folder: another one has another inode or time."""
    try:
        facts = (folder / manifest.NAME).stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns


@contextmanager
def _stderr_to(log: Path):
    """Send what a kernel and its native libraries write to stderr into a file beside the executed notebook."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(log, "w") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


def _papermill(source: Path, executed: Path, values: dict[str, Any], root: Path, line: Line) -> None:
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines

    class LiveEngine(NBClientEngine):
        """Papermill's own engine, telling the line which cell runs."""

        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            begin = nb_man.cell_start

            def cell_start(cell, cell_index=None, **rest):
                line.cell = (cell_index or 0) + 1
                if cell.cell_type == "markdown" and cell.source.startswith("#"):
                    line.heading = cell.source.splitlines()[0].strip("# ")
                return begin(cell, cell_index, **rest)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    papermill_engines.register("kyara", LiveEngine)
    papermill.execute_notebook(
        str(source), str(executed), parameters=values, engine_name="kyara", kernel_name="python3", cwd=str(root),
        progress_bar=False, store_widget_state=False, coalesce_streams=True, iopub_timeout=60, start_timeout=120,
    )  # fmt: skip
