"""Small tables behind the figures, from the run's large ones: what `figures/data` holds."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kyara_utils.report import plots_answers, plots_data, plots_eval, plots_judge, plots_students, plots_training

Row = dict[str, Any]

# Figure name → (function, table it is drawn from). 09 draws exactly these.
FIGURES: dict[str, tuple[Callable, str]] = {
    "retrieval": (plots_eval.retrieval, "retrieval"),
    "language_distribution": (plots_data.language_distribution, "language_distribution"),
    "conversation_rounds": (plots_data.conversation_rounds, "conversation_rounds"),
    "token_lengths": (plots_data.token_lengths, "token_lengths"),
    "funnel": (plots_data.funnel, "funnel"),
    "similarity": (plots_data.similarity, "similarity"),
    "tag_coverage": (plots_data.tag_coverage, "tag_coverage"),
    "judge_agreement": (plots_judge.judge_agreement, "judge"),
    "length_difference": (plots_judge.length_difference, "judge"),
    "sft_curve": (plots_training.sft_curve, "sft_curve"),
    "held_out": (plots_training.held_out, "held_out"),
    "dpo_curve": (plots_training.dpo_curve, "dpo_curve"),
    "rounds": (plots_students.rounds, "rounds"),
    "generation": (plots_students.generation, "generation"),
    "scores": (plots_eval.benchmark_scores, "scores"),
    "paired_differences": (plots_eval.paired_differences, "differences"),
    "published_differences": (plots_eval.published_differences, "claims"),
    "pairwise": (plots_answers.pairwise, "pairwise"),
    "open_categories": (plots_answers.open_categories, "open_categories"),
    "step_times": (plots_training.step_times, "steps"),
}


def language_rows(rows: list[Row]) -> list[Row]:
    """Rows per language."""
    return [{"lang": lang, "rows": count} for lang, count in Counter(row["lang"] for row in rows).most_common()]


def round_rows(rows: list[Row]) -> list[Row]:
    """Rows per number of rounds (user turns)."""
    counts = Counter(sum(message["role"] == "user" for message in row["messages"]) for row in rows)
    return [{"rounds": rounds, "rows": count} for rounds, count in sorted(counts.items())]


def length_rows(rows: list[Row], count_tokens: Callable[[str], int]) -> list[Row]:
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


def tag_rows(base: list[Row], refined: list[Row]) -> list[Row]:
    """Rows per tag in the base and in the refined set, most frequent first."""
    kept = Counter(tag for row in refined for tag in row["tags"])
    counts = Counter(tag for row in base for tag in row["tags"])
    return [{"tag": tag, "rows": count, "refined_rows": kept[tag]} for tag, count in counts.most_common()]


def step_rows(manifests: list[Row]) -> list[Row]:
    """Seconds and peak memory of every step."""
    return [{"step": m["step"], "seconds": m["seconds"], "peak_gb": m["peak_memory_gb"]} for m in manifests]


def captions(folder: Path) -> list[tuple[Path, str]]:
    """Every drawn figure with its name as caption, in the order of `FIGURES`."""
    return [(folder / f"{name}.png", name.replace("_", " ")) for name in FIGURES if (folder / f"{name}.png").exists()]
