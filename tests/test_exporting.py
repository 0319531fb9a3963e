"""A run's rows in other people's layouts: each file as the tool that reads it wants it, and no row lost on the way."""

import json
from unittest import mock

import pytest
from run_folder import TEXT, finished_run

from kyara_utils.__main__ import main
from kyara_utils.report.data_sets import passage_ids
from kyara_utils.runs import read_jsonl, read_rows, write_rows
from kyara_utils.runs.schemas import stored_schema
from kyara_utils.sharing.exporting import LAYOUTS, export
from kyara_utils.sharing.layouts import misfit

SETS = {"base-train": 19, "base-test": 1, "refined-train": 9, "refined-test": 1, "preferences-train": 3}
SETS |= {"preferences-test": 1}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run of forty rows, where the package looks for runs."""
    monkeypatch.setenv("KYARA_RUNS", str(tmp_path))
    return finished_run(tmp_path / "tiny", 40)


def message(role, content="x"):
    return {"role": role, "content": content}


@pytest.fixture
def odd_row(run):
    """The id of a training row that begins with the assistant, as rows of open sets do."""
    path = run / "04_filtering/base.parquet"
    rows = read_rows(path)
    rows[3]["messages"] = [message("assistant"), message("user"), message("assistant")]
    write_rows(path, rows, stored_schema(path))
    return rows[3]["id"]


def test_trl_reads_its_layout(run, tmp_path):
    """A trainer that takes a set for plain text trains on the names of the keys."""
    from datasets import load_dataset
    from trl.data_utils import is_conversational

    folder = tmp_path / "out"
    assert export("tiny", "trl", folder) == {f"{name}.parquet": rows for name, rows in SETS.items()}
    pairs = {"prompt", "chosen", "rejected", "step", "rejected_cut"}
    for name, columns in (("base", {"messages"}), ("preferences", pairs)):
        files = {"train": str(folder / f"{name}-train.parquet")}
        rows = load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
        assert set(rows.column_names) >= columns and all(is_conversational(row) for row in rows)
        assert all(one["title"].startswith("茶") and TEXT in one["text"] for row in rows for one in row["passages"])
        assert rows[0]["passages"]


def test_llama_factory_reads_its_layout(run, odd_row, tmp_path):
    """Its loader takes columns from dataset_info.json, and skips what does not alternate with a warning only."""
    made, folder = export("tiny", "llama-factory", tmp_path / "out"), tmp_path / "out"
    assert made["base-train.parquet"] == 18 and made["rejects.jsonl"] == 1
    (lost,) = read_jsonl(folder / "rejects.jsonl")
    assert (lost["id"], lost["rule"], lost["detail"]) == (odd_row, "turns_do_not_alternate", "base")
    info = json.loads((folder / "dataset_info.json").read_text())
    assert len(info) == 6 and all(entry["formatting"] == "sharegpt" for entry in info.values())
    for name, entry in info.items():
        for row in read_rows(folder / entry["file_name"]):
            turns = row[entry["columns"]["messages"]]
            assert [turn["from"] for turn in turns] == [("human", "gpt")[n % 2] for n in range(len(turns))]
            assert len(turns) % 2 == entry["ranking"] == ("preferences" in name)
            if entry["ranking"]:
                assert row[entry["columns"]["chosen"]] == {"from": "gpt", "value": f"chosen：{TEXT}"}


def test_sharegpt_lines_are_flat_and_whole(run, odd_row, tmp_path):
    """An empty list in the first rows gives a column no type, and the loader fails at the first full one."""
    made, folder = export("tiny", "sharegpt", tmp_path / "out"), tmp_path / "out"
    assert made["rejects.jsonl"] == 1 and made["preferences-train.jsonl"] == 3
    source = {row["id"]: row for row in read_rows(run / "04_filtering/base.parquet")}
    for row in read_jsonl(folder / "base-train.jsonl"):
        assert [turn["value"] for turn in row["conversations"]] == [m["content"] for m in source[row["id"]]["messages"]]
        assert all(f"【{name}】" in row["passages"] for name in passage_ids(source[row["id"]]))
    assert {type(row["passages"]) for row in read_jsonl(folder / "preferences-train.jsonl")} == {str}


@pytest.mark.parametrize(
    ("roles", "rule"),
    [
        ("su a", "unknown_role"), ("sua", ""), ("ua", ""), ("uaua", ""), ("u", "turns_do_not_alternate"),
        ("au", "turns_do_not_alternate"), ("uua", "turns_do_not_alternate"), ("s", "turns_do_not_alternate"),
        ("", "turns_do_not_alternate"), ("usa", "turns_do_not_alternate"),
    ],
)  # fmt: skip
def test_what_has_no_place_is_named(roles, rule):
    names = {"s": "system", "u": "user", "a": "assistant", " ": "tool"}
    assert misfit({"messages": [message(names[letter]) for letter in roles]}) == rule


def test_a_pair_needs_a_question_and_one_answer_a_side():
    answers = {"chosen": [message("assistant")], "rejected": [message("assistant")]}
    assert misfit({"prompt": [message("user")], **answers}) == ""
    assert misfit({"prompt": [message("user"), message("assistant")], **answers}) == "turns_do_not_alternate"
    answers["chosen"] = [message("assistant"), message("user"), message("assistant")]
    assert misfit({"prompt": [message("user")], **answers}) == "answer_of_several_turns"


def test_argilla_folder_holds_what_its_settings_name(run, tmp_path):
    """A record with a field that the settings lack is refused by the server, one by one."""
    made, folder = export("tiny", "argilla", tmp_path / "out"), tmp_path / "out"
    assert made == {"conversations/records.json": 20, "preferences/records.json": 4}
    for name in ("conversations", "preferences"):
        settings = json.loads((folder / name / ".argilla/settings.json").read_text())
        records = json.loads((folder / name / "records.json").read_text(encoding="ascii"))
        fields = {field["name"]: field["required"] for field in settings["fields"]}
        parts = [one["name"] for kind in ("fields", "questions", "metadata") for one in settings[kind]]
        assert len(set(parts)) == len(parts)  # Argilla wants them unique across all kinds
        for record in records:
            assert {field for field, needed in fields.items() if needed} <= record["fields"].keys() <= fields.keys()
            assert record["metadata"].keys() <= {one["name"] for one in settings["metadata"]}
            assert record["fields"]["passages"].startswith("【id_")
        assert json.loads((folder / name / ".argilla/dataset.json").read_text())["name"] == f"kyara-tiny-{name}"
    answers = {record["fields"][record["metadata"]["chosen"]] for record in records}
    assert answers == {f"chosen：{TEXT}"}


def test_argilla_itself_reads_the_folder(run, tmp_path):
    """Where it is installed: settings, dataset and records through its own classes."""
    argilla = pytest.importorskip("argilla")
    from argilla._models import DatasetModel

    export("tiny", "argilla", tmp_path / "out")
    with mock.patch.object(argilla.Argilla, "_get_default", return_value=mock.MagicMock()):
        for name, questions in (("conversations", 2), ("preferences", 2)):
            folder = tmp_path / "out" / name
            settings = argilla.Settings.from_json(folder / ".argilla/settings.json")
            settings.validate()
            assert len(list(settings.questions)) == questions
            DatasetModel(**json.loads((folder / ".argilla/dataset.json").read_text()))
            for record in json.loads((folder / "records.json").read_text()):
                read = argilla.Record.from_dict(record).api_model().model_dump()
                assert read["fields"] == record["fields"] and read["metadata"] == record["metadata"]


def test_data_designer_seeds_are_flat(run, tmp_path):
    """A column of lists cannot be named in a prompt."""
    made, folder = export("tiny", "data-designer", tmp_path / "out"), tmp_path / "out"
    assert made == {"conversations.parquet": 20, "passages.parquet": 13}
    rows = read_rows(folder / "conversations.parquet")
    assert {type(value) for row in rows for value in row.values()} == {str}
    assert all(row["question"].startswith("文件：") and row["answer"] and "【id_" in row["passages"] for row in rows)
    assert [row["split"] for row in rows].count("test") == 1


def test_data_designer_itself_takes_the_seed(run, tmp_path):
    """Where it is installed: the file through its own class, its columns in a prompt."""
    dd = pytest.importorskip("data_designer.config")
    export("tiny", "data-designer", tmp_path / "out")
    for name in ("conversations", "passages"):
        source = dd.LocalFileSeedSource(path=str(tmp_path / f"out/{name}.parquet"))
        assert dd.SeedConfig(source=source).source.path.endswith(f"{name}.parquet")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_folder_says_how_to_load_it(run, tmp_path, capsys, layout):
    assert main(["export", "tiny", "--layout", layout, "--to", str(tmp_path / "out")]) == 0
    assert " rows  " in capsys.readouterr().out
    page = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert f"layout {layout}" in page and all(f"`{name}`" in page for name in LAYOUT_FILES[layout])


LAYOUT_FILES = {
    "trl": ["messages", "base-train.parquet"], "llama-factory": ["dataset_info.json"], "sharegpt": ["conversations"],
    "argilla": ["conversations/records.json"], "data-designer": ["{{ passages }}"],
}  # fmt: skip


def test_wrong_requests_are_one_line(run, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("x")
    for arguments, mend in ((["--layout", "alpaca", "--to", "x"], "sharegpt, argilla"),
                            (["--layout", "trl", "--to", str(tmp_path / "full")], "new folder")):  # fmt: skip
        assert main(["export", "tiny", *arguments]) == 1
        assert mend in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert (tmp_path / "full/letter.txt").read_text() == "x"
