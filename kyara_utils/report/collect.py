"""Small tables behind the figures, from the run's large ones: what `figures/data` holds."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from kyara_utils.report import (
    plots_answers,
    plots_data,
    plots_differences,
    plots_eval,
    plots_judge,
    plots_pairs,
    plots_reading,
    plots_students,
    plots_training,
)
from kyara_utils.report.style import save_figure
from kyara_utils.runs import Run, iter_rows, read_csv, write_csv
from kyara_utils.runs.tables import Row

# Figure name → (function, table it is drawn from). 09 draws exactly these.
FIGURES: dict[str, tuple[Callable, str]] = {
    "retrieval": (plots_eval.retrieval, "retrieval"),
    "language_distribution": (plots_data.language_distribution, "language_distribution"),
    "conversation_rounds": (plots_data.conversation_rounds, "conversation_rounds"),
    "token_lengths": (plots_data.token_lengths, "token_lengths"),
    "funnel": (plots_data.funnel, "funnel"),
    "similarity": (plots_data.similarity, "similarity"),
    "tag_coverage": (plots_data.tag_coverage, "tag_coverage"),
    "preference_lengths": (plots_pairs.preference_lengths, "sources"),
    "judge_agreement": (plots_judge.judge_agreement, "judge"),
    "length_difference": (plots_judge.length_difference, "judge"),
    "sft_curve": (plots_training.sft_curve, "sft_curve"),
    "held_out": (plots_training.held_out, "held_out"),
    "dpo_curve": (plots_training.dpo_curve, "dpo_curve"),
    "rounds": (plots_students.rounds, "rounds"),
    "generation": (plots_students.generation, "generation"),
    "reading": (plots_reading.reading, "scores"),
    "scores": (plots_eval.benchmark_scores, "scores"),
    "paired_differences": (plots_differences.paired_differences, "differences"),
    "published_differences": (plots_differences.published_differences, "claims"),
    "pairwise": (plots_answers.pairwise, "pairwise"),
    "open_categories": (plots_answers.open_categories, "open_categories"),
    "step_times": (plots_training.step_times, "steps"),
}


# Table → the step that writes it as it is shown.
WRITTEN = {
    "retrieval": "01_corpus_indexing",
    "funnel": "04_filtering",
    "similarity": "04_filtering",
    "sft_curve": "05_sft",
    "held_out": "05_sft",
    "sources": "06_dpo_pair_judging",
    "judge": "06_dpo_pair_judging",
    "dpo_curve": "07_dpo",
    "rounds": "07_dpo",
    "generation": "07_dpo",
} | dict.fromkeys(
    ("scores", "pairwise", "open_categories", "differences", "card", "claims", "sums", "contamination"), "08_eval"
)
LENGTHS = 20_000  # rows whose messages are counted in tokens, evenly spaced over the table


def copy_tables(run: Run, data: Path) -> None:
    """Copy the tables that the steps themselves wrote."""
    for name, step in WRITTEN.items():
        shutil.copyfile(run.input(step, name), data / f"{name}.csv")


def count_tables(run: Run, data: Path, count_tokens: Callable[[str], int]) -> None:
    """Count languages, rounds, lengths and tags of step 04's sets, and every step's cost; rows are read in batches."""
    base, refined = (run.input("04_filtering", name) for name in ("base", "refined"))
    total = run.manifest_of("04_filtering")["outputs"]["base"]["rows"]
    some = islice(iter_rows(base, ["source", "messages"]), 0, None, max(1, total // LENGTHS))
    write_csv(data / "language_distribution.csv", language_rows(iter_rows(base, ["lang"])))
    write_csv(data / "conversation_rounds.csv", round_rows(iter_rows(base, ["messages"])))
    write_csv(data / "token_lengths.csv", message_lengths(some, count_tokens))
    write_csv(data / "tag_coverage.csv", tag_rows(iter_rows(base, ["tags"]), iter_rows(refined, ["tags"])))
    write_csv(data / "rules.csv", rule_rows(run))
    write_csv(data / "steps.csv", step_rows([run.manifest_of(need) for need in run.step.needs]))


def draw_figures(run: Run, data: Path, figures: Path) -> None:
    """Draw every figure of `FIGURES` from its table, with the limits that the run was given."""
    options = {
        "token_lengths": {"max_length": run.params_of("05_sft")["max_length"]},
        "similarity": {"threshold": run.params_of("04_filtering")["semantic_threshold"]},
        "open_categories": {"low": 0.0, "high": 1.0},
        "funnel": {"rules": read_csv(data / "rules.csv")},
    }
    for name, (draw, table) in FIGURES.items():
        save_figure(draw(read_csv(data / f"{table}.csv"), **options.get(name, {})), figures, name)


def rule_rows(run: Run) -> list[Row]:
    """{stage, rule, rows}: what each rule of 02 and 03 removed (stage `written`), and of 04 (its stages), most first.

    A reject of 04 names its rule only; where that is no stage's name, the rule is one of quality.
    """
    stages = {row["stage"] for row in read_csv(run.input("04_filtering", "funnel"))}
    counts: Counter[tuple[str, str]] = Counter()
    for step in ("02_rag_sft_synthesis", "03_math_personahub", "04_filtering"):
        for row in iter_rows(run.input(step, "rejects"), ["rule"]):
            own = next((stage for stage in sorted(stages) if row["rule"].startswith(stage)), "quality")
            counts[own if step == "04_filtering" else "written", row["rule"]] += 1
    return [{"stage": stage, "rule": rule, "rows": rows} for (stage, rule), rows in counts.most_common()]


def language_rows(rows: Iterable[Row]) -> list[Row]:
    """Rows per language."""
    return [{"lang": lang, "rows": count} for lang, count in Counter(row["lang"] for row in rows).most_common()]


def round_rows(rows: Iterable[Row]) -> list[Row]:
    """Rows per number of rounds (user turns)."""
    counts = Counter(sum(message["role"] == "user" for message in row["messages"]) for row in rows)
    return [{"rounds": rounds, "rows": count} for rounds, count in sorted(counts.items())]


def message_lengths(rows: Iterable[Row], count_tokens: Callable[[str], int]) -> list[Row]:
    """Tokens of every message, by source and part (prompt or response)."""
    return [
        {
            "source": row["source"],
            "part": "response" if message["role"] == "assistant" else "prompt",
            "tokens": count_tokens(message["content"]),
        }
        for row in rows
        for message in row["messages"]
    ]


def tag_rows(base: Iterable[Row], refined: Iterable[Row]) -> list[Row]:
    """Rows per tag in the base and in the refined set, most frequent first."""
    kept = Counter(tag for row in refined for tag in row["tags"])
    counts = Counter(tag for row in base for tag in row["tags"])
    return [{"tag": tag, "rows": count, "refined_rows": kept[tag]} for tag, count in counts.most_common()]


def step_rows(manifests: list[Row]) -> list[Row]:
    """Seconds, peak memory and CPU cores of every step."""
    return [
        {"step": m["step"], "seconds": m["seconds"], "peak_gb": m["peak_memory_gb"], "cores": m["hardware"]["cores"]}
        for m in manifests
    ]
