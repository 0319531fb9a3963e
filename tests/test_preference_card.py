"""The card of the preference pairs: every figure as in the tables, every licence named, and its own snippet runs."""

import json
import re

import pytest
import yaml
from run_folder import finish, finished_run, preference

from kyara_utils.preference.shares import side_lengths
from kyara_utils.report import publication
from kyara_utils.runs import finished, read_rows, reject, write_csv, write_rows
from kyara_utils.runs.schemas import PREFERENCE, REJECT

STEP = "06_dpo_pair_judging"


@pytest.fixture
def card(tmp_path, monkeypatch):
    """A run with pairs of three sources, lengths, a judge that was refused and rejects; returns its folder and card."""
    monkeypatch.setenv("KYARA_RUNS", str(tmp_path))
    folder = finished_run(tmp_path / "tiny", 40) / STEP
    plain = read_rows(folder / "preferences.parquet")
    steps = [row | {"id": f"s{n}", "source": "step_dpo", "step": True} for n, row in enumerate(plain[:2])]
    note = json.dumps({"licence": "mit", "file": "a|b.jsonl", "line": "1"})
    bought = [
        preference(900 + n, "") | {"source": "ultrafeedback", "verdicts": note, "chosen_model": "/home/me/m"}
        for n in range(3)
    ]
    write_rows(folder / "preferences.parquet", [*plain, *steps, *bought[:2]], PREFERENCE)
    write_rows(folder / "held_out.parquet", [*read_rows(folder / "held_out.parquet"), bought[2]], PREFERENCE)
    write_rows(folder / "rejects.parquet", [reject(STEP, "tie", {"id": f"t{n}"}) for n in range(7)], REJECT)
    import numpy as np

    write_csv(folder / "sources.csv", side_lengths({"rlaif": (np.full(30, 1234), np.full(30, 56))}))
    tested = {"judge": "gemma-3-270m", "n": 12, "kappa": -0.16, "kappa_low": -0.24, "kappa_high": 0.18}
    write_csv(folder / "judge_tests.csv", [tested | {"trusted": False}])
    finish(folder)
    return folder, publication.preference_text(finished("tiny"), tmp_path / "tiny/09_plots/data", "tiny-preferences")


def line(card, start):
    (found,) = [text for text in card.splitlines() if text.startswith(f"| {start} |")]
    return found


def test_every_source_has_its_rows_makers_and_licence(card):
    """A published set under our own licence is somebody's work given away."""
    _, text = card
    lines = [one for one in text.splitlines() if one.startswith("| ultrafeedback |")]
    assert lines[0].endswith("| 2 | 1 | mit |") and "/home" not in text and "…/m" in lines[1]
    steps = [one for one in text.splitlines() if one.startswith("| step_dpo |")]
    assert steps[0].startswith("| step_dpo | the first wrong step") and "| 2 | 0 | cc-by-4.0, and the terms" in steps[0]
    assert steps[1].endswith("| sft | base | 2 | 0 |")


def test_rules_judges_lengths_and_split_are_those_of_the_tables(card):
    _, text = card
    assert line(text, "tie") == "| tie | 7 |"
    assert line(text, "gemma-3-270m") == "| gemma-3-270m | 12 | -0.16 | -0.24 to 0.18 | no |"
    assert "| rlaif | 30 | 1,234 (1,234–1,234) | 56 (56–56) | 100.0 | the chosen answer is the longer one" in text
    assert re.search(r"\| train \| `preferences.parquet` \| \d+ \|", text)
    assert "| test | `held_out.parquet` | 2 |" in text


def test_the_snippet_loads_the_files_beside_the_card(card, monkeypatch):
    """`configs` are what the Hub's viewer goes by, the snippet what a reader copies."""
    folder, text = card
    head = yaml.safe_load(text.split("---\n")[1])
    assert [part["path"] for part in head["configs"][0]["data_files"]] == ["preferences.parquet", "held_out.parquet"]
    assert head["license"] == "other" and "gemma-terms" in head["license_name"] and head["size_categories"] == ["n<1K"]
    monkeypatch.chdir(folder)
    space = {}
    exec(re.search(r"```python\n(.*?)```", text, re.S)[1], space)
    assert {name: len(rows) for name, rows in space["pairs"].items()} == {
        "train": len(read_rows(folder / "preferences.parquet")), "test": 2,
    }  # fmt: skip


def test_a_run_without_pairs_has_a_card_all_the_same(tmp_path, monkeypatch):
    """A judge that is refused leaves nothing to train on, and the last notebook must not die of it."""
    monkeypatch.setenv("KYARA_RUNS", str(tmp_path))
    folder = finished_run(tmp_path / "tiny", 12) / STEP
    for name in ("preferences", "held_out"):
        write_rows(folder / f"{name}.parquet", [], PREFERENCE)
    finish(folder)
    text = publication.preference_text(finished("tiny"), tmp_path / "tiny/09_plots/data", "t")
    assert "no pair" in text and "load_dataset" not in text
