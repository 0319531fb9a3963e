"""Notebook 07 from its first cell to its last on a tiny model: what it writes, with held-out pairs and without."""

from types import SimpleNamespace

import pytest
import test_eval_notebook as evaluation
import test_training as shared

from kyara_utils.preference.preference_rows import preference
from kyara_utils.runs import params, read_csv, schemas, write_rows

cache, tiny_gguf, base, rows = (getattr(shared, name) for name in ("cache", "tiny_gguf", "base", "rows"))
NOTEBOOK = evaluation.ROOT / "notebooks" / "07_dpo.ipynb"
CELLS = [cell["source"] for cell in params.load_notebook(NOTEBOOK)["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("unseen", [2, 0])
def test_training_pairs_never_stand_alone(base, rows, tmp_path, capsys, unseen):
    pairs = [preference(f"q{n}?", "a" * (n + 1), "z" * (n + 1), f"s{n % 2}", "m", "m", {}, [], []) for n in range(6)]
    tables = {"preferences": pairs[unseen:], "held_out": pairs[:unseen]}
    for name, found in tables.items():
        write_rows(tmp_path / f"{name}_in.parquet", found, schemas.PREFERENCE)
    held = [{**row, "lang": "en", "source": "rag", "call_ids": [], "meta": "{}"} for row in rows[6:]]
    write_rows(tmp_path / "sft_in.parquet", held, schemas.CONVERSATION)
    places = {"held_out_parquet": tmp_path / "sft_in.parquet", "sft": base, "vocabulary": tmp_path / "none"}
    places |= {name: tmp_path / f"{name}_in.parquet" for name in tables}
    finished = {}
    run = SimpleNamespace(
        dir=tmp_path, store_path=tmp_path / "calls.sqlite", started=0, path=lambda name: tmp_path / name,
        input=lambda step, name: places[name], params_of=lambda step: {},
        manifest_of=lambda step: {"metrics": {"held_out_sft": 5.0}},
    )  # fmt: skip
    run.finish = lambda **outputs: finished.update(outputs)
    space = {name: parameter.default for name, parameter in params.declared(NOTEBOOK).items()}
    space |= {"run": run, "max_length": 64, "learning_rate": 1e-3, "max_displacement": 0.0}
    for number, source in enumerate(CELLS):
        if number != 1:  # the parameters
            source = source.rpartition("run = start(")[0] if "run = start(" in source else source
            exec(compile(source, f"cell {number}", "exec"), space)
    said, counts = capsys.readouterr().out, finished["counts"]
    assert counts["in"] == 6 == counts["out"] + counts["rejects"]
    splits = {row["split"] for row in read_csv(tmp_path / "dpo_pairs.csv")}
    curve = read_csv(tmp_path / "dpo_curve.csv")
    if unseen:
        assert splits == {"training", "held_out"} and "on held-out pairs: reward accuracy" in said
        assert finished["metrics"]["held_out_pairs"] == 2 and any(row["held_out_accuracy"] for row in curve)
        assert [row["n"] for row in read_csv(tmp_path / "length_drift.csv")] == ["2", "1", "1"]
    else:
        assert splits == {"training"} and "none was held out, so the line above shows memory" in said
        assert "held_out_accuracy" not in finished["metrics"] and read_csv(tmp_path / "length_drift.csv") == []
