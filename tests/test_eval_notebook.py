"""Notebook 08 from the golden self-check to its last table, on small tables in the place of models."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from kyara_utils.evaluation import card_runs
from kyara_utils.evaluation.backends.backend import ReplayBackend
from kyara_utils.evaluation.golden import self_check
from kyara_utils.evaluation.miniature import items
from kyara_utils.runs import KyaraError, params, read_csv, read_rows

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "08_eval.ipynb"
CELLS = {cell["id"]: cell["source"] for cell in params.load_notebook(NOTEBOOK)["cells"] if cell["cell_type"] == "code"}
MODELS = ("base", "sft", "dpo")
ASKING = ("08-04", "08-06", "08-08", "08-12")  # what needs models; everything else is run as it stands


def scored_items(space):
    """Rows as the models would have given them; sft and dpo are right a little more often."""
    rows = []
    for strength, model in enumerate(MODELS, 1):
        for kind, questions in (
            ("multiple_choice", "choice"),
            ("maths", "maths"),
            ("instruction_following", "instructions"),
        ):
            for i, item in enumerate(space[questions]):
                outcome = "correct" if i % 4 < strength else "unscored" if i % 4 == 3 else "wrong"
                row = {"benchmark": kind, "model": model, "id": item["id"], "outcome": outcome, "checks": [outcome]}
                row |= {"strict": outcome, "lenient": outcome, "text": "|<b>"}
                rows.append(row | {name: item.get(name, "") for name in ("group", "subject")})
    return rows


def judged_pairs(space):
    """One judged row for each open item and pair of models."""
    outcomes = ("win", "tie", "loss", "unscored")
    return [
        {"benchmark": "open_questions", "id": item["id"], "category": item["category"], "model_a": a, "model_b": b,
         "outcome": outcomes[i % 4]}
        for a, b in space["pairs"][:2]
        for i, item in enumerate(space["opened"] + space["two_turn"])
    ]  # fmt: skip


def notebook(folder, golden_folder, benchmark_data=""):
    """Run all cells but those that ask models; return the namespace and what `run.finish` was given."""
    finished = {}
    run = SimpleNamespace(root=folder, path=lambda name: folder / name, finish=lambda **given: finished.update(given))
    declared = params.declared(NOTEBOOK)
    space = {name: parameter.default for name, parameter in declared.items()}
    space |= {
        "golden": str(golden_folder),
        "benchmark_data": benchmark_data,
        "run": run,
        "usage": {},
        "answers": [{"id": "a"}],
    }
    space |= {"pairs": [("sft", "base"), ("dpo", "sft"), ("dpo", "base")], "models": MODELS}
    leaked = items.load_items("maths")[0]["question"]
    space["training"] = [{"messages": [{"role": "user", "content": leaked}]}]
    for name, source in list(CELLS.items())[2:]:
        if name == "08-03":
            source = source.rpartition("run = start(")[0]
        if name not in ASKING:
            exec(compile(source, name, "exec"), space)
        if name == "08-06":
            space |= {"items": scored_items(space), "benchmarks": benchmark_rows(space["data"])}
        if name == "08-12":
            space |= {"judged": judged_pairs(space), "pairwise": [], "verdicts": []}
    return space, finished


def benchmark_rows(data):
    """The benchmarks' items, answered from the store: dpo right, base wrong, sft not at all."""
    said = {"dpo": '{"answer": "4"}', "base": '{"answer": "5"}', "sft": None}
    return [
        row
        for model, text in said.items()
        for name, questions in data.questions.items()
        for row in card_runs.run_benchmark(
            ReplayBackend([{"id": q["id"], "text": text} for q in questions]), name, questions, model
        )
    ]


@pytest.fixture
def small_golden(tmp_path, monkeypatch):
    """A folder with one quick kind of published figures; no data folder is set."""
    monkeypatch.delenv("KYARA_EVAL_DATA", raising=False)
    monkeypatch.setenv("KYARA_CACHE", str(tmp_path / "cache"))
    shutil.copytree(self_check.BUNDLED / "alignbench", tmp_path / "golden" / "alignbench")
    return tmp_path / "golden"


def test_without_data_the_cards_lines_stay_empty(tmp_path, small_golden):
    """The smoke run must leave every table that 09 reads, and no number in a benchmark's line."""
    space, finished = notebook(tmp_path, small_golden)
    for name in (
        "scores",
        "pairwise",
        "differences",
        "open_categories",
        "golden",
        "card",
        "claims",
        "sums",
        "contamination",
        "ratings",
    ):
        assert finished["outputs"][name].exists(), name
    lines = read_csv(tmp_path / "card.csv")
    assert len(lines) == 44 and not any(line["n"] for line in lines)
    assert {line["ours [95 %]"].split(":")[0] for line in lines} == {"not run", "left out"}
    assert len(read_rows(tmp_path / "items.parquet")) == finished["counts"]["items"] == len(space["items"])
    page = (tmp_path / "evaluation.md").read_text(encoding="utf-8")
    assert "7 of 13 published differences" in page and "| slip |" in page


def test_a_leaked_item_is_scored_apart(tmp_path, small_golden):
    """The one maths question in the training text must leave the clean score."""
    space, _ = notebook(tmp_path, small_golden)
    parts = {row["part"]: row["n"] for row in space["split"] if (row["model"], row["metric"]) == ("dpo", "strict")}
    assert parts == {"clean": 19, "seen in training": 1}


def test_with_data_a_benchmark_fills_its_line(tmp_path, small_golden):
    """Two questions of GSM8K: the line says so, and the difference to the base model is on the same items."""
    rows = '{"question": "Two and two?", "answer": "#### 4"}\n{"question": "One and three?", "answer": "#### 4"}\n'
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "gsm8k.jsonl").write_text(rows)
    space, finished = notebook(tmp_path, small_golden, "real")
    line = next(line for line in space["lines"] if line["score"] == "GSM8K")
    assert line["ours [95 %]"].startswith("100.00 [") and line["n"] == "2 of 1,319"
    assert line["paired difference"].startswith("+100.00 [") and "to base, n 2" in line["paired difference"]
    real = [row for row in space["scores"] if row.get("dataset")]
    assert {row["dataset"] for row in real} == {"openai/gsm8k"} and finished["counts"]["benchmark_items"] == 6
    assert not any(row["model_b"] == "sft" for row in space["differences"] if row["benchmark"] == "gsm8k")


def test_a_wrong_golden_figure_stops_the_notebook(tmp_path, small_golden):
    """Scores after a failed self-check would be read all the same."""
    table = small_golden / "alignbench" / "published.csv"
    head, first, *rest = table.read_text(encoding="utf-8").splitlines()
    cells = dict(zip(head.split(","), first.split(","), strict=True)) | {"overall": "9.99"}
    table.write_text("\n".join([head, ",".join(cells.values()), *rest]), encoding="utf-8")
    with pytest.raises(KyaraError, match="golden self-check .* failed"):
        notebook(tmp_path, small_golden)
    assert not (tmp_path / "scores.csv").exists()
