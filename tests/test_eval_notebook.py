"""Notebook 08 from its first cell to its last, with scripted models in the place of real ones."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import kyara_utils.llm
from kyara_utils.evaluation import stages
from kyara_utils.evaluation.golden import self_check
from kyara_utils.evaluation.miniature import items
from kyara_utils.llm import Response
from kyara_utils.runs import KyaraError, params, read_csv, read_rows, write_csv

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "08_eval.ipynb"
CELLS = [cell["source"] for cell in params.load_notebook(NOTEBOOK)["cells"] if cell["cell_type"] == "code"]
MODELS = ("base", "sft", "dpo")
FEW = {"multiple_choice": 2, "maths": 20, "instruction_following": 4, "open_questions": 1, "two_turn": 1}
TABLES = "scores pairwise differences open_categories golden card claims sums contamination ratings".split()


class Scripted:
    """A client whose model knows `answer` to every question; judges the answers shown first and second alike."""

    usage: dict = {}

    def __init__(self, name, answer):
        self.model, self.answer = SimpleNamespace(name=name, dialect="chat"), answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def ask(self, requests, label="", **_):
        return [self._response(request) for request in requests]

    def _response(self, request):
        if request.top_logprobs:
            letters = dict(zip("ABCD", (-1.0, -2.0, -3.0, -4.0), strict=True))
            return Response("call", logprobs=[letters])
        text = self.answer(request.messages[-1]["content"])
        return Response("call", text or "", "stop", error="" if text is not None else "HTTP 500")


def known(name):
    """What each model says: dpo is right about JSON and capitals, base wrong, sft's calls to JSON fail."""
    wanted = {"dpo": "4", "base": "5", "sft": None}[name]

    def answer(prompt):
        if "JSON" in prompt:
            return None if wanted is None else json.dumps({"answer": wanted})
        return {"dpo": "It is Tokyo, Paris, Cairo or Lima.", "base": "不知道", "sft": "答案是4"}[name]

    return answer


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A function that runs all cells and returns the namespace and what `run.finish` was given."""
    monkeypatch.delenv("KYARA_EVAL_DATA", raising=False)
    monkeypatch.setenv("KYARA_CACHE", str(tmp_path / "cache"))
    trust = {"judge": "gemma-3-270m", "mode": "logprob", "right": 80, "as_tie": 0, "wrong": 20}
    write_csv(tmp_path / "judge_tests.csv", [trust])
    shutil.copytree(self_check.BUNDLED / "alignbench", tmp_path / "golden" / "alignbench")
    told = [stages.Stage(name, tmp_path, SimpleNamespace(name=name)) for name in MODELS]
    monkeypatch.setattr(stages, "stages", lambda *_: told)
    leaked = items.load_items("maths")[0]["question"]
    monkeypatch.setattr(
        stages, "texts_of", lambda run: iter([leaked, "What is the name of the capital of the country Peru?"])
    )
    for place in (kyara_utils.llm, stages):  # the judge's, and the models'
        monkeypatch.setattr(place, "connect", lambda model, *_: Scripted(_name(model), known(_name(model))))

    def run_all(judged=True, **given):
        finished = {}
        run = SimpleNamespace(
            root=tmp_path, store_path=tmp_path, path=lambda name: tmp_path / name,
            input=lambda step, name: tmp_path / ("judge_tests.csv" if name == "judge_tests" else ""),
            has=lambda step: judged, finish=lambda **outputs: finished.update(outputs),
        )  # fmt: skip
        space = {name: parameter.default for name, parameter in params.declared(NOTEBOOK).items()}
        space |= {"golden": "golden", "miniature_items": FEW, "run": run} | given
        for number, source in enumerate(CELLS):
            if number == 1:  # the parameters
                continue
            source = source.rpartition("run = start(")[0] if "run = start(" in source else source
            exec(compile(source, f"cell {number}", "exec"), space)
        return space, finished

    return run_all


def _name(model):
    """The judge is given by name and answers as base does."""
    return getattr(model, "name", "base")


def test_without_data_the_cards_lines_stay_empty(tmp_path, notebook):
    """The smoke run must leave every table that 09 reads, and no number in a benchmark's line."""
    space, finished = notebook()
    assert all(finished["outputs"][name].exists() for name in (*TABLES, "items", "answers", "verdicts", "evaluation"))
    lines = read_csv(tmp_path / "card.csv")
    assert len(lines) == 44 and not any(line["n"] for line in lines)
    assert {line["ours [95 %]"].split(":")[0] for line in lines} == {"not run", "left out"}
    assert len(read_rows(tmp_path / "items.parquet")) == finished["counts"]["items"] == len(space["items"])
    assert {key.split("_", 1)[1] for key in finished["metrics"]} == {
        "multiple_choice",
        "maths",
        "instruction_following",
    }
    for row in space["pairwise"]:  # the tested judge's errors are in every interval
        assert 0 <= row["low"] <= row["corrected"] <= row["high"] <= 1 and row["n"]
    page = (tmp_path / "evaluation.md").read_text(encoding="utf-8")
    assert "7 of 13 published differences" in page and "| slip |" in page


def test_without_step_06_the_judge_counts_as_untested(notebook):
    """A variant that compares stages of SFT has no pairs and no DPO; its judge's wins stand uncorrected."""
    space, finished = notebook(judged=False, compared=["base", "sft"])
    assert space["tested"] == [] and space["pairwise"] and finished["outputs"]["items"].exists()


def test_a_leaked_item_is_scored_apart(notebook):
    """The one maths question in the training text must leave the clean score."""
    space, _ = notebook()
    parts = {row["part"]: row["n"] for row in space["split"] if (row["model"], row["metric"]) == ("dpo", "strict")}
    assert parts == {"clean": 19, "seen in training": 1}


def test_with_data_a_benchmark_fills_its_line(tmp_path, notebook):
    """Two questions of GSM8K: the line says so, and the difference to the base model is on the same items."""
    rows = '{"question": "Two and two?", "answer": "#### 4"}\n{"question": "One and three?", "answer": "#### 4"}\n'
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "gsm8k.jsonl").write_text(rows)
    space, finished = notebook(benchmark_data="real")
    line = next(line for line in space["lines"] if line["score"] == "GSM8K")
    assert line["ours [95 %]"].startswith("100.00 [") and line["n"] == "2 of 1,319"
    assert line["paired difference"].startswith("+100.00 [") and "to base, n 2" in line["paired difference"]
    real = [row for row in space["scores"] if row.get("dataset")]
    assert {row["dataset"] for row in real} == {"openai/gsm8k"} and finished["metrics"]["dpo_gsm8k"] == 1
    assert not any(row["model_b"] == "sft" for row in space["differences"] if row["benchmark"] == "gsm8k")


def test_no_look_fails_where_nothing_was_asked(notebook, monkeypatch):
    """A set that is empty must not stop the run at the cell that shows one of its answers."""
    monkeypatch.setattr("kyara_utils.evaluation.miniature.pairwise.load_items", lambda *_: [])
    space, finished = notebook()
    assert not space["opened"] and finished["counts"]["judged"] == 0


def test_the_notebook_and_the_runs_code_know_no_benchmark_by_name():
    """A name in a branch is a place that a new benchmark would have to be added to."""
    from kyara_utils.evaluation.registry import benchmarks

    package = ROOT / "kyara_utils" / "evaluation"
    code = {"08": "\n".join(CELLS).replace('"pairwise": pairwise', "")}  # the table of counts, pairwise.csv
    names = ("evaluate", "benchmark", "summary", "output_tables", "question_files", "golden/self_check")
    code |= {name: (package / f"{name}.py").read_text(encoding="utf-8") for name in (*names, "backends/backend")}
    for place, text in code.items():
        assert not [name for name in benchmarks() if f'"{name}"' in text], place


def test_a_wrong_golden_figure_stops_the_notebook(tmp_path, notebook):
    """Scores after a failed self-check would be read all the same."""
    table = tmp_path / "golden" / "alignbench" / "published.csv"
    head, first, *rest = table.read_text(encoding="utf-8").splitlines()
    cells = dict(zip(head.split(","), first.split(","), strict=True)) | {"overall": "9.99"}
    table.write_text("\n".join([head, ",".join(cells.values()), *rest]), encoding="utf-8")
    with pytest.raises(KyaraError, match="golden self-check .* failed"):
        notebook()
    assert not (tmp_path / "scores.csv").exists()
