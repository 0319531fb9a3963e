"""The chain of a recipe: everything checked first, then run in order, skipping what is fresh; or only looked at."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kyara_utils.runs import manifest, params, recipes, steps, taken_over
from kyara_utils.runs.env import find_root
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.execute import execute

log = logging.getLogger(__name__)
RowsOf = Callable[[str, str], int | None]


class Plan(Protocol):
    """Words what steps will ask of LLMs (`llm.plan.Plan`); unknown models are a `KyaraError`."""

    def step(self, table: list[dict[str, Any]], values: dict[str, Any], rows_of: RowsOf) -> list[str]:
        """Lines for one step's table of calls."""

    def total(self) -> list[str]:
        """Lines for all of them, with what is missing."""


@dataclass(frozen=True)
class Job:
    """A recipe with the resolved parameters of every step of its chain."""

    root: Path
    recipe: str
    chain: dict[str, steps.Step]
    values: dict[str, dict[str, Any]]
    like: str = ""  # of a variant: its recipe

    @classmethod
    def of(cls, recipe: str, settings: list[str]) -> "Job":
        """Read the recipe; raise `KyaraError` on an unknown or mistyped name or value anywhere in it."""
        root = find_root()
        chain = steps.load_steps(root)
        given = params.parse_settings(settings, list(chain))
        given = {name: steps.seen_from_here(root, chain[name], values) for name, values in given.items()}
        values = {name: steps.resolved(root, recipe, name, given.get(name, {})) for name in chain}
        found = recipes.variant_of(root, recipe)
        return cls(root, recipe, chain, values, found.like if found else "")

    def reason(self, name: str, redone: set[str] = frozenset()) -> str:
        """Why a step has to run, or ""; `redone`: steps that would run before it."""
        step = self.chain[name]
        folder = steps.step_dir(self.root, self.recipe, name)
        reason = steps.why_stale(folder, steps.key_parts(self.root, self.recipe, step, self.values[name]))
        again = [need for need in step.needs + step.optional if need in redone]
        return reason or (f"if the outputs of {again[0]} change" if again else "")

    def missing(self, name: str) -> str:
        """The file or folder that a step's parameters name and that is not there, in words, or ""."""
        return steps.missing_folder(self.root, self.chain[name], self.values[name])

    def planned(self, name: str, plan: "Plan") -> list[str]:
        """What the step's calls will cost, worded; raises `KyaraError` on an unknown model."""
        others = {f"{step[:2]}.{key}": value for step, known in self.values.items() for key, value in known.items()}
        return plan.step(list(self.chain[name].calls), others | self.values[name], self.rows_of)

    def rows_of(self, number: str, output: str) -> int | None:
        """Rows of another step's output, None before it has run."""
        done = self.done(params.match_step(number, list(self.chain)))
        return done["outputs"].get(output, {}).get("rows") if done else None

    def done(self, name: str) -> dict[str, Any] | None:
        """A step's manifest, if it has completed."""
        return manifest.read(steps.step_dir(self.root, self.recipe, name))


def run(
    recipe: str,
    settings: list[str] | None = None,
    only: str = "",
    first: str = "",
    last: str = "",
    dry_run: bool = False,
    plan: Plan | None = None,
) -> int:
    """Run a recipe's steps in order; return how many ran (with `dry_run`: would run).

    `plan` words what the steps' calls will cost, and knows which models there are.
    Raises `KyaraError` at the first failing step; everything is checked before the first kernel starts.
    """
    job = Job.of(recipe, settings or [])
    chosen = _selected(recipes.steps_of(job.root, recipe), only, first, last)
    if dry_run:
        return _look(job, chosen, plan)
    for name in chosen:
        if missing := job.missing(name):
            raise KyaraError(f"{name}: {missing}")
        if plan:
            job.planned(name, plan)
    if job.like:
        taken_over.begin_with_calls(job.root, recipe, job.like)
    return sum(_run_one(job, name) for name in chosen)


def _run_one(job: Job, name: str) -> bool:
    if not (reason := job.reason(name)):
        log.info(f"{name:<24} fresh, skipped")
        return False
    if job.like and taken_over.take_over(job.root, job.recipe, job.like, job.chain[name], job.values[name]):
        log.info(f"{name:<24} taken from {job.like}, where it is done with the same code, parameters and inputs")
        return False
    log.info(f"{name:<24} runs: {reason}{_last_cost(job.done(name))}")
    execute(job.root, job.recipe, job.chain[name], job.values[name])
    return True


def _look(job: Job, chosen: list[str], plan: Plan | None) -> int:
    """Say what would run and why, what it may cost, and what is missing for it; change nothing."""
    redone: set[str] = set()
    for name in chosen:
        if not (reason := job.reason(name, redone)):
            log.info(f"{name:<24} fresh, skipped")
            continue
        redone.add(name)
        log.info(f"{name:<24} would run: {reason}{_last_cost(job.done(name))}")
        missing = job.missing(name)
        _log_indented((job.planned(name, plan) if plan else []) + ([f"missing: {missing}"] if missing else []))
    _log_indented(plan.total() if plan else [])
    return len(redone)


def _log_indented(lines: list[str]) -> None:
    for line in lines:
        log.info(f"{'':<24} {line}")


def _last_cost(done: dict[str, Any] | None) -> str:
    calls = (done or {}).get("llm", {})
    if not calls:
        return ""
    cost = f", ${calls['cost']:.2f}" if calls.get("cost") else ""
    return f" (last time {calls['calls']} calls, {calls['prompt_tokens'] + calls['completion_tokens']:,} tokens{cost})"


def _selected(names: list[str], only: str, first: str, last: str) -> list[str]:
    if only:
        return [params.match_step(only, names)]
    begin = names.index(params.match_step(first, names)) if first else 0
    end = names.index(params.match_step(last, names)) if last else len(names) - 1
    if begin > end:
        raise KyaraError(f"--from {names[begin]} comes after --to {names[end]}, so nothing would run; swap them")
    return names[begin : end + 1]


def status(recipe: str) -> list[dict[str, Any]]:
    """Each step of a recipe: done, stale (with the reason) or missing; when it ended, seconds, peak memory, rows."""
    root = find_root()
    chain = steps.load_steps(root)
    return [_state(root, recipe, chain[name]) for name in recipes.steps_of(root, recipe)]


def _state(root: Path, recipe: str, step: steps.Step) -> dict[str, Any]:
    folder = steps.step_dir(root, recipe, step.name)
    done = manifest.read(folder)
    values = done["key"]["params"] if done else steps.resolved(root, recipe, step.name, {})
    reason = steps.why_stale(folder, steps.key_parts(root, recipe, step, values))
    known = done or {"outputs": {}, "finished": "", "seconds": None, "peak_memory_gb": None}
    return {
        "step": step.name,
        "state": reason or "fresh",
        "finished": known["finished"],
        "seconds": known["seconds"],
        "peak_gb": known["peak_memory_gb"],
        "rows": {name: output["rows"] for name, output in known["outputs"].items() if output["rows"] is not None},
    }
