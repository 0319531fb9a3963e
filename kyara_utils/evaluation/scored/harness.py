"""The benchmarks that lm-evaluation-harness defines, with the Open LLM Leaderboard's normalisation on top.

The harness reports raw scores only, and the model cards of 2024 print normalised ones: MMLU-Pro 27 % raw is 19
normalised. Both are given here, beside the number of documents that went unanswered, which the harness counts as wrong.
It is an extra (`pip install "kyara-utils[eval]"`) and is imported only when it runs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kyara_utils.evaluation.scored import ifeval
from kyara_utils.evaluation.scoring import CORRECT, UNSCORED, WRONG
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import wilson

# Choices per task, for the chance level; object_counting offers 0–18 and is normalised as 19 choices.
CHOICES = {
    "mmlu_pro": 10, "gpqa_main": 4, "gpqa_diamond": 4, "gpqa_extended": 4, "musr_murder_mysteries": 2,
    "musr_object_placements": 5, "musr_team_allocation": 3, "bbh_boolean_expressions": 2, "bbh_causal_judgement": 2,
    "bbh_date_understanding": 6, "bbh_disambiguation_qa": 3, "bbh_formal_fallacies": 2, "bbh_geometric_shapes": 11,
    "bbh_hyperbaton": 2, "bbh_logical_deduction_five_objects": 5, "bbh_logical_deduction_seven_objects": 7,
    "bbh_logical_deduction_three_objects": 3, "bbh_movie_recommendation": 6, "bbh_navigate": 2,
    "bbh_object_counting": 19, "bbh_penguins_in_a_table": 5, "bbh_reasoning_about_colored_objects": 18,
    "bbh_ruin_names": 6, "bbh_salient_translation_error_detection": 6, "bbh_snarks": 2,
    "bbh_sports_understanding": 2, "bbh_temporal_sequences": 4, "bbh_tracking_shuffled_objects_five_objects": 5,
    "bbh_tracking_shuffled_objects_seven_objects": 7, "bbh_tracking_shuffled_objects_three_objects": 3,
    "bbh_web_of_lies": 2,
}  # fmt: skip
# `leaderboard` of the harness with its IFEval exchanged for the stock one: the same checkers, but the leaderboard's
# copy imports `pkg_resources`, which setuptools no longer has.
LEADERBOARD_TASKS = (
    "ifeval", "leaderboard_bbh", "leaderboard_math_hard", "leaderboard_gpqa", "leaderboard_musr",
    "leaderboard_mmlu_pro",
)  # fmt: skip
LEADERBOARD = ("ifeval", "bbh", "math_hard", "gpqa", "musr", "mmlu_pro")
METRICS = ("exact_match", "acc_norm", "acc", "prompt_level_strict_acc")


def normalise(raw: float, choices: int) -> float:
    """Map a share right to 0–100 with chance at 0: max(0, (raw − 1/k) / (1 − 1/k)) · 100 for k choices; k = 0 (no
    choices: generated answers) only scales. Source: Open LLM Leaderboard 2, "Scores normalization"."""
    chance = 1 / choices if choices else 0.0
    return max(0.0, (raw - chance) / (1 - chance)) * 100


def task_choices(task: str) -> int:
    """Number of choices of a leaderboard task; 0 for generated answers and for tasks that are not the leaderboard's."""
    return CHOICES.get(task.removeprefix("leaderboard_"), 0)


def leaderboard_scores(rows: Sequence[Row]) -> dict[str, float]:
    """Average the rows of `run_harness` into the leaderboard's columns, 0–100; only columns that have a row.

    BBH, GPQA and MuSR are means of their normalised subtasks, MATH of its subtasks, IFEval of instruction- and
    prompt-level strict.
    """
    columns: dict[str, list[float]] = {}
    for row in rows:
        name = row["task"].removeprefix("leaderboard_")
        column = next((column for column in LEADERBOARD if name.startswith(column.removesuffix("_hard"))), "")
        if not column:
            continue
        columns.setdefault(column, []).append(row["normalised"])
        if column == "ifeval":
            columns[column].append(100 * row["metrics"]["inst_level_strict_acc"])
    return {name: sum(values) / len(values) for name, values in columns.items()}


def run_harness(
    model: Any,
    tokenizer: Any,
    tasks: Sequence[str],
    limit: int | None = None,
    include_path: Path | None = None,
    apply_chat_template: bool = False,
    batch_size: int = 8,
) -> list[Row]:
    """Run tasks of the harness; one row a task and answer filter (`none` where a task has one way of reading).

    `leaderboard` stands for the Open LLM Leaderboard's six. `model` is a transformers model, or an
    `lm_eval.api.model.LM`, which brings its own tokenizer.
    `include_path` is a folder of own task files; a task there may say `include: <a stock task>.yaml` and name local
    data (`dataset_path: json`, `dataset_kwargs: {data_files: …}`). Rows {task, filter, metric, raw, normalised,
    choices, n, correct, wrong, unscored, low, high, metrics, documents}: raw and its Wilson interval are shares,
    normalised is 0–100; `documents` holds {id, outcome} of each. Raises `KyaraError` without the extra, for an
    unknown task, and for data that cannot be had.
    """
    tasks = [one for task in tasks for one in (LEADERBOARD_TASKS if task == "leaderboard" else (task,))]
    evaluator, manager = _lm_eval(include_path, tasks)
    unknown = [task for task in tasks if task not in manager.all_tasks]
    if unknown:
        raise KyaraError(f"lm_eval knows no task {', '.join(unknown)}; list them: lm_eval ls tasks")
    if any("ifeval" in task for task in tasks):
        ifeval.checkers()  # seeded, and without the download that IFEval's import would start
    lm = _as_lm(model, tokenizer, batch_size)
    try:
        found = evaluator.simple_evaluate(
            model=lm, tasks=tasks, limit=limit, task_manager=manager, apply_chat_template=apply_chat_template,
            fewshot_as_multiturn=apply_chat_template, log_samples=True, bootstrap_iters=0,
        )  # fmt: skip
    except (ImportError, OSError) as error:  # a task's own package, or its dataset
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        fix = "pip install 'kyara-utils[eval]', and see that the Hub or its cache has the data"
        raise KyaraError(f"the harness cannot run {', '.join(tasks)}: {why}; {fix}") from error
    return [
        task_row(task, rule, found["results"][task], [one for one in samples if one["filter"] == rule])
        for task, samples in found["samples"].items()
        for rule in dict.fromkeys(one["filter"] for one in samples)
    ]


def _lm_eval(include_path: Path | None, tasks: Sequence[str]) -> tuple[Any, Any]:
    """The harness's evaluator and a task manager; its 14,000 stock tasks are indexed only when one is wanted."""
    try:
        from lm_eval import evaluator
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise KyaraError(f"the harness is not installed ({error.name}); pip install 'kyara-utils[eval]'") from error
    folder = str(include_path) if include_path else None
    own = TaskManager(include_path=folder, include_defaults=False) if folder else None
    return evaluator, own if own and set(tasks) <= set(own.all_tasks) else TaskManager(include_path=folder)


def _as_lm(model: Any, tokenizer: Any, batch_size: int) -> Any:
    from lm_eval.api.model import LM

    if isinstance(model, LM):
        return model
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)


def task_row(task: str, rule: str, results: Row, samples: Sequence[Row]) -> Row:
    """One row of `run_harness` from the harness's results of a task and its samples under one filter.

    A document whose answers are all empty is unscored: the harness calls it wrong, which hides failed calls.
    """
    metrics = {key.split(",")[0]: value for key, value in results.items() if key.endswith(f",{rule}")}
    metrics = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
    metric = next((name for name in METRICS if name in metrics and name in samples[0]), "")
    if not metric:
        raise KyaraError(f"{task} reports none of {', '.join(METRICS)}; read its scores from lm_eval itself")
    documents = [{"id": str(sample["doc_id"]), "outcome": _outcome(sample, metric)} for sample in samples]
    outcomes = [document["outcome"] for document in documents]
    n, right, unscored = len(outcomes), outcomes.count(CORRECT), outcomes.count(UNSCORED)
    raw, choices = right / n, task_choices(task)
    return {
        "task": task, "filter": rule, "metric": metric, "raw": raw, "normalised": normalise(raw, choices),
        "choices": choices, "n": n, "correct": right, "wrong": outcomes.count(WRONG), "unscored": unscored,
        "low": wilson(right, n)[0], "high": wilson(right + unscored, n)[1], "metrics": metrics, "documents": documents,
    }  # fmt: skip


def _outcome(sample: Row, metric: str) -> str:
    answers = [answer for answers in sample["resps"] for answer in answers]
    if all(answer is None or isinstance(answer, str) and not answer.strip() for answer in answers):
        return UNSCORED
    return CORRECT if float(sample[metric]) == 1.0 else WRONG
