"""Variants of a recipe: one file, resolved, run and compared like any recipe."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from small_project import small_project

from kyara_utils.evaluation.compare_runs import compare_runs
from kyara_utils.evaluation.output_tables import FILES, item_rows
from kyara_utils.llm.replay import shipped_calls
from kyara_utils.runs import KyaraError, manifest, recipes, schemas, steps, write_rows
from kyara_utils.runs.logs import show_messages
from kyara_utils.runs.pipeline import Job, _selected, run, status
from kyara_utils.training.data import passes

ROOT = Path(__file__).resolve().parents[1]
project = pytest.fixture(small_project)
VARIANTS = recipes.variants(ROOT)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_differs_in_what_it_names_and_nowhere_else(name):
    """Two differences at once would make its comparison worthless; training tokens and models asked do not count."""
    found = recipes.variant_of(ROOT, name)
    changed = Job.of(name, []).values
    for step, values in Job.of(found.like, []).values.items():
        different = {key for key, value in values.items() if changed[step][key] != value} - {"recipe"}
        assert different <= found.changes.get(step, {}).keys(), step
    assert (ROOT / f"params/variants/{name}.yaml").read_text(encoding="utf-8").startswith("# ")
    assert list(found.steps) == [step for step in steps.load_steps(ROOT) if step in found.steps]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_needs_no_step_that_it_leaves_out(name):
    """Its one command would end in the middle."""
    chosen = recipes.steps_of(ROOT, name)
    for step in chosen:
        assert set(steps.load_steps(ROOT)[step].needs) <= set(chosen), step


def test_a_variant_takes_the_shipped_calls_of_its_recipe():
    """Without them an ablation would ask the teacher everything again."""
    assert shipped_calls("taiwan-no-documents") == shipped_calls("taiwan") is not None
    assert [row["step"] for row in status("taiwan-no-documents")] == recipes.steps_of(ROOT, "taiwan-no-documents")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("like: tin\n", "like: tin is no recipe; did you mean tiny"),
        ("05: {seed: 1}\n", "like: nothing is no recipe"),
        ("like: tiny\n1: seed\n", "write like: RECIPE"),
        ("like: tiny\n9: {seed: 1}\n", "no step 09"),
        ("- like\n", "must be flat"),
        ("like: [\n", "is not YAML"),
    ],
)
def test_a_wrong_variant_is_told_in_one_line(tmp_path, text, said):
    """By name of the file, before anything runs."""
    (tmp_path / "params/tiny").mkdir(parents=True)
    (tmp_path / "params/variants").mkdir()
    (tmp_path / "params/pipeline.yaml").write_text("steps: {01_one: {}}\n")
    (tmp_path / "params/tiny/01_one.yaml").write_text("recipe: tiny\nseed: 3\n")
    (tmp_path / "params/variants/tiny-b.yaml").write_text(text)
    with pytest.raises(KyaraError, match=said) as told:
        recipes.load_recipe(tmp_path, "tiny-b", "01_one")
    assert "\n" not in str(told.value)
    (tmp_path / "params/variants/tiny-b.yaml").write_text("like: tiny\n01: {seed: 4}\n")
    assert recipes.load_recipe(tmp_path, "tiny-b", "01_one")[0] == {"recipe": "tiny-b", "seed": 4}
    with pytest.raises(KyaraError, match="no recipe tiny-c in params; did you mean tiny-b"):
        recipes.load_recipe(tmp_path, "tiny-c", "01_one")


def test_steps_are_chosen_among_those_of_the_variant():
    """`--from 06` of a variant without 06 has nothing to begin with."""
    with pytest.raises(KyaraError, match="no step 06"):
        _selected(recipes.steps_of(ROOT, "taiwan-no-documents"), "", "06", "")


def test_tokens_decide_the_passes_where_they_are_given():
    """Runs with fewer rows train as long as the others."""
    rows = [{"tokens": 100}, {"tokens": 300}]
    assert passes(rows, 2.0, 0) == 2.0 and passes(rows, 2.0, 1000) == 2.5 and passes([], 2.0, 10) == 2.0


def evaluated(folder: Path, recipe: str, outcomes: list[float]) -> None:
    """A run's manifests of training and evaluation, with one open-book item for each F1."""
    rows = [
        {"benchmark": "open_book", "model": "sft", "id": str(number), "outcome": "correct" if f1 == 1 else "wrong",
         "f1": f1, "folded": "wrong", "folded_f1": f1, "variant": "alone", "text": "答"}
        for number, f1 in enumerate(outcomes)
    ]  # fmt: skip
    place = folder / recipe / "08_eval"
    write_rows(place / "items.parquet", item_rows(rows), schemas.schema(**dict.fromkeys(FILES["items"], str)))
    manifest.write_json(place / "manifest.json", {"outputs": {"items": {"path": "items.parquet"}}})
    metrics = {"trained_rows": 9, "trained_tokens": 90, "held_out_sft": 3.5}
    manifest.write_json(folder / recipe / "05_sft/manifest.json", {"metrics": metrics, "seconds": 1800, "outputs": {}})


def test_runs_are_compared_on_the_questions_that_both_answered(tmp_path, monkeypatch):
    """A mean of each would let the draw of questions pass for a gain."""
    monkeypatch.setenv("KYARA_RUNS", str(tmp_path))
    evaluated(tmp_path, "taiwan", [0.0, 0.5, 1.0, 0.25])
    evaluated(tmp_path, "taiwan-no-documents", [0.5, 0.5, 0.0])
    costs, found = compare_runs(["taiwan", "taiwan-no-documents"], "sft")
    assert costs[0] == {"recipe": "taiwan", "rows": 9, "tokens": 90, "hours": 0.5, "held_out_loss": 3.5}
    f1 = next(row for row in found if row["metric"] == "f1")
    assert f1["n"] == 3 and f1["difference"] == pytest.approx((0.5 + 0 - 1) / 3) and f1["low"] < 0 < f1["high"]
    assert (f1["model_a"], f1["model_b"]) == ("taiwan-no-documents", "taiwan")
    with pytest.raises(KyaraError, match="taiwan has no answers of dpo"):
        compare_runs(["taiwan"], "dpo")
    with pytest.raises(KyaraError, match="has no finished step"):
        compare_runs(["smoke"], "sft")
    (tmp_path / "taiwan/08_eval/manifest.json").unlink()
    with pytest.raises(KyaraError, match="taiwan is not evaluated; run"):
        compare_runs(["taiwan"], "sft")


def test_an_item_is_kept_whole_beside_its_columns():
    """What a comparison needs differs by benchmark, so the scored row is kept as it was."""
    (row,) = item_rows([{"benchmark": "cited", "model": "sft", "id": "1", "citations": 2, "text": "長"}])
    assert json.loads(row["scored"])["citations"] == 2 and row["text"] == "長" and "長" not in row["scored"]


def test_a_variant_takes_over_what_is_the_same(project, capsys):
    """Three seeds of training would make the corpus three times; and what differs must not be taken."""
    show_messages()
    variants = project / "params/variants"
    variants.mkdir()
    (variants / "tiny-b.yaml").write_text("# n\nlike: tiny\n02: {n: 4}\n")
    (variants / "tiny-c.yaml").write_text("# rate\nlike: tiny\n01: {rate: 0.5}\n")
    run("tiny")
    ledger = sqlite3.connect(project / "runs/tiny/calls.sqlite")
    with closing(ledger):
        ledger.execute("CREATE TABLE calls (key TEXT)")
    assert run("tiny-b") == 1 and run("tiny-b") == 0
    said = capsys.readouterr().out
    assert "01_one                   taken from tiny" in said and "02_two                   runs" in said
    taken = manifest.read(project / "runs/tiny-b/01_one")
    assert taken["recipe"] == taken["key"]["params"]["recipe"] == "tiny-b" and taken["taken_from"] == "tiny"
    assert (project / "runs/tiny-b/01_one/out.parquet").is_file() and (project / "runs/tiny-b/calls.sqlite").is_file()
    assert run("tiny-c") == 1, "02 reads the same bytes from another 01, so it is taken"
    (project / "runs/tiny/01_one/out.parquet").write_bytes(b"damaged")
    shutil.rmtree(project / "runs/tiny-b/01_one")
    assert run("tiny-b", only="01") == 1, "a damaged output is not handed on"
