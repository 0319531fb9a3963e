"""AlignBench in Simplified and Traditional Chinese: answers rated 1–10 against a reference, averaged over eight folds.

Protocol of THUDM/AlignBench v1.1 (Liu et al. 2023, arXiv 2311.18743): one user message with the dimensions of the
question's type, reasoning first, scores as a dictionary at the end. Its own parser reads neither 綜合得分 nor double
quotes and its table averages the failures in as -1; here they are unscored, and the table says how many.
"""

import ast
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kyara_utils.evaluation.benchmark import Judge
from kyara_utils.evaluation.card import load_published
from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.golden.golden_files import read_records
from kyara_utils.evaluation.judged.judgment_files import read_table, reading
from kyara_utils.evaluation.judged.loop import Message, fill, judge_answers
from kyara_utils.evaluation.judged.parsers import parse_overall, parse_ratings
from kyara_utils.evaluation.judged.rated import Paths, Rated
from kyara_utils.evaluation.published import REGISTRY
from kyara_utils.evaluation.registry import register
from kyara_utils.llm import Client, Request
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import bootstrap_mean

REASONING = {"数学计算": "math", "逻辑推理": "logic"}
LANGUAGE = {
    "基本任务": "fundamental", "中文理解": "chinese_understanding", "综合问答": "open_ended", "文本写作": "writing",
    "角色扮演": "role_play", "专业能力": "professional",
}  # fmt: skip
FOLDS = REASONING | LANGUAGE
TRADITIONAL = {
    "數學計算": "数学计算", "邏輯推理": "逻辑推理", "基本任務": "基本任务", "綜合問答": "综合问答",
    "文本寫作": "文本写作", "專業能力": "专业能力",
}  # fmt: skip
JUDGE_TOKENS = 2048
CONFIG = {
    "dimensions": "dimension_set.json", "definitions": "dimension_definition.json",
    "types": "subcategory_question_mapping.json", "temperatures": "temperature.json",
}  # fmt: skip
SLIP = ("ChatGPT-3.5-0613", "reasoning")  # the card prints 5.00; its folds, and its overall, say 5.085


@dataclass(frozen=True)
class AlignPrompts:
    """The judge's template and, by subcategory and type, the dimensions with their definitions."""

    template: str
    dimensions: Mapping[str, list[str]]  # type → dimensions
    definitions: Mapping[str, str]  # dimension → definition
    types: Mapping[str, str]  # subcategory → type
    temperatures: Mapping[str, float]  # category → temperature of the answers


def load_align_prompts(folder: Path) -> AlignPrompts:
    """Read the benchmark's own judge.py (its `base_prompt` literal; nothing is executed) and config/*.json."""
    folder, config = Path(folder), {}
    for name, file in CONFIG.items():
        with reading(folder / "config" / file):
            config[name] = json.loads((folder / "config" / file).read_text(encoding="utf-8"))
    with reading(folder / "judge.py"):
        template = _literal((folder / "judge.py").read_text(encoding="utf-8"), "base_prompt")
    return AlignPrompts(template, **config)


def _literal(source: str, name: str) -> str:
    """The string constant that Python source assigns to `name`, without running it."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ValueError("no Python source") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            value = ast.literal_eval(node.value)
            if isinstance(value, str):
                return value
    raise ValueError(f"no text called {name}")


def messages_for(question: Row, answer: str, prompts: AlignPrompts) -> list[Message]:
    """Judge message for a question row {question, reference, category, subcategory} and a model's answer."""
    dimensions = prompts.dimensions.get(prompts.types.get(question["subcategory"], ""))
    if not dimensions:
        raise KyaraError(f"AlignBench knows no dimensions for {question['subcategory']!r}; correct the subcategory")
    listed = "".join(f"{i}. {name}: {prompts.definitions[name]}\n" for i, name in enumerate(dimensions, 1))
    fields = {"category": question["category"], "dimensions": listed, "question": question["question"]}
    fields |= {"reference": question["reference"], "answer": answer}
    return [{"role": "user", "content": fill(prompts.template, fields, doubled=True)}]


def to_traditional(questions: Sequence[Row]) -> list[Row]:
    """The CHT run: questions converted with OpenCC s2tw as the model card did; references and prompt stay Simplified.

    Each row gains `converted`, the fields that changed, and `opencc`, the version, since its tables drift.
    """
    import opencc

    convert, version = opencc.OpenCC("s2tw").convert, getattr(opencc, "__version__", "")
    found = []
    for row in questions:
        text = convert(row["question"])
        changed = ["question"] if text != row["question"] else []
        found.append(row | {"question": text, "converted": changed, "opencc": version})
    return found


def judge_align(
    client: Client, questions: Sequence[Row], answers: Mapping[Any, str], prompts: AlignPrompts, model: str = ""
) -> list[Row]:
    """Rate every answered question: {model, question_id, category, subcategory, score (None), ratings, judgment, …}."""
    asked = [question for question in questions if question["question_id"] in answers]
    requests = [Request(messages_for(q, answers[q["question_id"]], prompts), JUDGE_TOKENS) for q in asked]
    verdicts = judge_answers(client, requests, lambda r: parse_overall(r.text), label=f"AlignBench {model}")
    return [
        {
            "model": model, "question_id": q["question_id"], "category": q["category"],
            "subcategory": q["subcategory"], "score": verdict.value, "ratings": parse_ratings(verdict.text),
            "judgment": verdict.text, "error": verdict.error, "call_ids": list(verdict.call_ids),
        }
        for q, verdict in zip(asked, verdicts, strict=True)
    ]  # fmt: skip


def fold_of(category: str) -> str:
    """The fold of a category in either script; an unknown category is its own."""
    return FOLDS.get(TRADITIONAL.get(category, category), category)


def aggregate(folds: Mapping[str, float]) -> dict[str, float]:
    """Reasoning = mean(math, logic), language = mean of the other six, overall = mean of these two."""
    reasoning = sum(folds[name] for name in REASONING.values()) / len(REASONING)
    language = sum(folds[name] for name in LANGUAGE.values()) / len(LANGUAGE)
    return {"reasoning": reasoning, "language": language, "overall": (reasoning + language) / 2}


def summarise(rows: Sequence[Row], seed: int = 0) -> list[Row]:
    """One model's rows {category, score} → {metric, value, low, high, n, unscored}: eight folds and three averages.

    The intervals resample questions. A fold without a scored question leaves the averages that need it NaN.
    """
    folds = [fold_of(row["category"]) for row in rows]
    if strange := set(folds) - set(FOLDS.values()):
        raise KyaraError(f"AlignBench has no category {strange.pop()!r}; correct the rows")
    scores = [math.nan if row["score"] is None else float(row["score"]) for row in rows]
    counts = {name: sum(f == name and not math.isnan(s) for f, s in zip(folds, scores, strict=True)) for name in
              FOLDS.values()}  # fmt: skip
    groups = {name: (name,) for name in FOLDS.values()}
    groups |= {"reasoning": tuple(REASONING.values()), "language": tuple(LANGUAGE.values())}
    groups["overall"] = groups["reasoning"] + groups["language"]
    return [_summary(metric, names, folds, scores, counts, seed) for metric, names in groups.items()]


def _summary(metric: str, names: tuple, folds: list[str], scores: list[float], counts: Mapping, seed: int) -> Row:
    """Mean of fold means as a weighted mean over questions; the two halves of `overall` weigh the same."""
    mine = [i for i, fold in enumerate(folds) if fold in names]
    size = {name: len(REASONING if name in REASONING.values() else LANGUAGE) for name in names}
    if all(counts[name] for name in names):
        weights = [1 / (max(counts[folds[i]], 1) * size[folds[i]]) for i in mine]
        value, low, high = bootstrap_mean([scores[i] for i in mine], seed=seed, weights=weights)
    else:
        value = low = high = math.nan
    n = sum(counts[name] for name in names)
    return {"metric": metric, "value": value, "low": low, "high": high, "n": n, "unscored": len(mine) - n}


def check(folder: Path) -> Iterator[Figure]:
    """The averages of every published row, and of the model card's table, from their folds."""
    path = Path(folder) / "alignbench" / "published.csv"
    for position, row in enumerate(read_table(path), 1):
        with reading(path):
            found = aggregate({name: float(row[name]) for name in FOLDS.values()})
            for metric, value in found.items():
                yield Figure(f"alignbench/row {position} {row['model']} {metric}", float(row[metric]), value, 0.0101)
    if path.is_file():
        yield from _check_card()


def _check_card() -> Iterator[Figure]:
    card: dict[str, dict[str, float]] = {}
    for row in load_published():
        if row["benchmark"] == "alignbench":
            card.setdefault(row["model"], {})[row["metric"]] = float(row["value"])
    for model, printed in card.items():
        for metric, value in aggregate(printed).items():
            published, note = printed[metric], ""
            if (model, metric) == SLIP:
                published = 2 * printed["overall"] - printed["language"]
                note = f"the card prints {printed[metric]:.2f}; its overall implies this"
            yield Figure(f"alignbench/card {model} {metric}", published, value, 0.0101, "1-10", note)


@register
class AlignBenchCht(Rated):
    """The questions converted to Traditional Chinese, as the card's own run did."""

    name = "alignbench_cht"
    title = "AlignBench, Traditional Chinese"
    metric = "overall"
    files = tuple(name for name in REGISTRY if name.startswith("alignbench_"))

    def read_questions(self, paths: Paths, roots: Sequence[Path]) -> list[Row]:
        """Rows {question_id, category, subcategory, question, reference}."""
        return read_records(paths["alignbench_questions"])

    def drawn(self, rows: list[Row]) -> list[Row]:
        """Converted by OpenCC."""
        return to_traditional(rows)

    def material(self, paths: Paths) -> Any:
        """The benchmark's own prompt and dimensions."""
        return load_align_prompts(paths["alignbench_judge"].parent)

    def judge(self, judge: Judge, items: list[Row], answers: Mapping, material: Any, model: str) -> list[Row]:
        """`metric` is the fold of the question's category."""
        rows = judge_align(judge.client, items, answers, material, model)
        return [row | {"metric": fold_of(row["category"])} for row in rows]

    def averages(self, rows: list[Row]) -> list[Row]:
        """Eight folds and three averages."""
        return summarise(rows)


@register
class AlignBenchChs(AlignBenchCht):
    """The questions as they are published."""

    name = "alignbench_chs"
    title = "AlignBench, Simplified Chinese"

    def drawn(self, rows: list[Row]) -> list[Row]:
        """Unchanged."""
        return rows

    check = staticmethod(check)
