"""The chain through papermill: serial, strict, skipping what is fresh, with a live line for people and for logs."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kyara_utils.runs import manifest, params, steps
from kyara_utils.runs.env import find_root, runs_dir, writable
from kyara_utils.runs.errors import KyaraError

log = logging.getLogger(__name__)
RowsOf = Callable[[str, str], int | None]
Estimate = Callable[[list[dict[str, Any]], dict[str, Any], RowsOf], list[str]]


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


def run(
    recipe: str,
    settings: list[str] | None = None,
    only: str = "",
    first: str = "",
    last: str = "",
    dry_run: bool = False,
    estimate: Estimate | None = None,
) -> int:
    """Run a recipe's steps in order; return how many ran (with `dry_run`: would run).

    `estimate` words what a step's calls will cost, from the step's table of calls (`llm.plan.describe`).
    Raises `KyaraError` at the first failing step; everything is checked before the first kernel starts.
    """
    root = find_root()
    chain = steps.load_steps(root)
    given = params.parse_settings(settings or [], list(chain))
    values = {name: steps.resolved(root, recipe, name, given.get(name, {})) for name in chain}
    ran: set[str] = set()
    for name in _selected(list(chain), only, first, last):
        reason = _reason(root, recipe, chain[name], values[name], ran if dry_run else set())
        if not reason:
            log.info(f"{name:<24} fresh, skipped")
            continue
        log.info(f"{name:<24} {'would run' if dry_run else 'runs'}: {reason}{_last_cost(root, recipe, name)}")
        if dry_run and estimate:
            others = {f"{step[:2]}.{key}": value for step, known in values.items() for key, value in known.items()}
            _log_estimate(estimate, root, recipe, chain[name], others | values[name])
        if not dry_run:
            execute(root, recipe, chain[name], values[name])
        ran.add(name)
    return len(ran)


def _selected(names: list[str], only: str, first: str, last: str) -> list[str]:
    if only:
        return [params.match_step(only, names)]
    begin = names.index(params.match_step(first, names)) if first else 0
    end = names.index(params.match_step(last, names)) if last else len(names) - 1
    if begin > end:
        raise KyaraError(f"--from {names[begin]} comes after --to {names[end]}, so nothing would run; swap them")
    return names[begin : end + 1]


def _reason(root: Path, recipe: str, step: steps.Step, values: dict[str, Any], upstream: set[str]) -> str:
    reason = steps.why_stale(steps.step_dir(root, recipe, step.name), steps.key_parts(root, recipe, step, values))
    redone = [need for need in step.needs if need in upstream]
    return reason or (f"if the outputs of {redone[0]} change" if redone else "")


def _last_cost(root: Path, recipe: str, name: str) -> str:
    done = manifest.read(steps.step_dir(root, recipe, name))
    calls = (done or {}).get("llm", {})
    if not calls:
        return ""
    cost = f", ${calls['cost']:.2f}" if calls.get("cost") else ""
    return f" (last time {calls['calls']} calls, {calls['prompt_tokens'] + calls['completion_tokens']:,} tokens{cost})"


def _log_estimate(
    estimate: Estimate, root: Path, recipe: str, step: steps.Step, values: dict[str, Any]
) -> None:
    def rows_of(name: str, output: str) -> int | None:
        done = manifest.read(steps.step_dir(root, recipe, params.match_step(name, list(steps.load_steps(root)))))
        return done["outputs"][output]["rows"] if done else None

    for line in estimate(list(step.calls), values, rows_of) if step.calls else []:
        log.info(f"{'':<24} {line}")


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


def status(recipe: str) -> list[dict[str, Any]]:
    """State of every step of a recipe: done, stale (with the reason) or missing; seconds, peak memory, rows."""
    root = find_root()
    table = []
    for name, step in steps.load_steps(root).items():
        folder = steps.step_dir(root, recipe, name)
        done = manifest.read(folder)
        values = done["key"]["params"] if done else steps.resolved(root, recipe, name, {})
        reason = steps.why_stale(folder, steps.key_parts(root, recipe, step, values))
        rows = {n: o["rows"] for n, o in (done or {"outputs": {}})["outputs"].items() if o["rows"] is not None}
        table.append(
            {
                "step": name,
                "state": reason or "fresh",
                "finished": done["finished"] if done else "",
                "seconds": done["seconds"] if done else None,
                "peak_gb": done["peak_memory_gb"] if done else None,
                "rows": rows,
            }
        )
    return table
