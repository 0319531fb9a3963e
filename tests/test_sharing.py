"""What leaves a run: nothing without a clear yes, nothing of the machine, no row on the wrong side of a split."""

import json
import shutil

import pytest
import yaml
from hub_stand_in import hub
from run_folder import CURATED, finish, finished_run

from kyara_utils.__main__ import main
from kyara_utils.models.gguf_file import Field, write_gguf
from kyara_utils.report import cards
from kyara_utils.report.card_facts import data_licence, known_as, model_licence
from kyara_utils.report.data_sets import passage_ids, sets_of
from kyara_utils.runs import finished, manifest, read_rows, reject, write_csv, write_rows
from kyara_utils.runs.schemas import PREFERENCE, REJECT
from kyara_utils.sharing.repositories import repositories
from kyara_utils.sharing.uploading import readable_size

FIELDS = {"general.architecture": Field(8, "gemma3"), "general.file_type": Field(4, 7)}
CONFIG = {"model_type": "gemma3_text", "vocab_size": 20480}


def add_model(folder, name):
    """A model's folder as training leaves it, with bytes for weights."""
    model = folder / name
    model.mkdir(parents=True)
    for file, content in {"config.json": CONFIG, "vocabulary.json": {"full_size": 262144, "ids": [0]}}.items():
        (model / file).write_text(json.dumps(content))
    (model / "model.safetensors").write_bytes(b"w" * 5000)
    (model / ".lock").write_text("")
    write_gguf(model / "model.gguf", FIELDS, [])


def change(folder, **parts):
    """Update a manifest's parts."""
    content = json.loads((folder / manifest.NAME).read_text())
    for name, values in parts.items():
        content[name] = content.get(name, {}) | values
    manifest.write_json(folder / manifest.NAME, content)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run of forty rows with trained models and 09's tables, where the package looks for runs."""
    monkeypatch.setenv("KYARA_RUNS", str(tmp_path))
    folder = finished_run(tmp_path / "tiny", 40)
    add_model(folder / "05_sft", "sft")
    add_model(folder / "07_dpo", "dpo")
    data = folder / "09_plots/data"
    for name in ("scores", "pairwise", "card"):
        shutil.copy(folder / f"08_eval/{name}.csv", data)
    shutil.copy(folder / "04_filtering/funnel.csv", data)
    write_csv(data / "rules.csv", [{"stage": "written", "rule": "copying", "rows": 10}])
    (data / "contamination.csv").write_text("benchmark,model\n")
    change(folder / "07_dpo", metrics={"held_out": 3.25, "reward_accuracy": 0.75, "pairs": 8})
    change(folder / "02_rag_sft_synthesis", metrics={"texts": 9, "leaked": 3, "leak_rate": 1 / 3, "leak_rate_after": 0})
    return folder


def head(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_nothing_leaves_without_a_yes(run, monkeypatch, capsys):
    """A dry run that creates a repository has published something."""
    with hub(monkeypatch) as server:
        assert main(["push", "tiny", "--to", "me/tiny"]) == 0
        assert main(["push", "tiny", "--to", "me/tiny", "--yes", "--dry-run"]) == 0
        assert server.calls == []
    said = capsys.readouterr().out
    for word in ("dataset me/tiny (private", "model me/tiny (", "gguf me/tiny-GGUF", "5 kB  model.safetensors"):
        assert word in said
    assert "tiny-Q8_0.gguf" in said and "nothing was sent" in said


def test_a_push_creates_fills_and_looks_again(run, monkeypatch, capsys):
    """Every file that was announced arrives whole, in private repositories, and a second push sends no weights."""
    with hub(monkeypatch) as server:
        assert main(["push", "tiny", "--to", "me/tiny", "--yes"]) == 0
        assert [body["visibility"] for body in server.made] == ["private"] * 3
        planned = repositories("tiny", "me/tiny")
        assert set(server.repositories) == {("dataset", "me/tiny"), ("model", "me/tiny"), ("model", "me/tiny-GGUF")}
        for one in planned:
            arrived = server.repositories[one.hub_type, one.name]
            assert arrived == {name: path.read_bytes() for name, path in one.files.items()}
        assert not any(name.startswith(".") or name == "model.gguf" for name in planned[1].files)
        sent = [call for call in server.calls if call[0] == "PUT"]
        assert main(["push", "tiny", "--to", "me/tiny", "--yes"]) == 0
        assert [call for call in server.calls if call[0] == "PUT"] == sent
    assert "publishing as me" in capsys.readouterr().out


def test_what_the_hub_refuses_is_one_line(run, monkeypatch, capsys):
    """A traceback of an HTTP library tells nobody to log in."""
    with hub(monkeypatch) as server:
        assert main(["push", "tiny", "--to", "you/tiny", "--yes", "--only", "model"]) == 1
        assert "another --to" in capsys.readouterr().err
        server.lose = "model.safetensors"
        assert main(["push", "tiny", "--to", "me/tiny", "--yes", "--only", "model"]) == 1
        assert "1 of" in (said := capsys.readouterr().err) and "push again" in said
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(run / "none"))
        assert main(["push", "tiny", "--to", "me/tiny", "--yes"]) == 1
        assert "hf auth login" in capsys.readouterr().err
    assert main(["push", "tiny", "--to", "me/tiny", "--yes"]) == 1  # the server is gone
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        (["--to", "tiny"], "OWNER/NAME"),
        (["--to", "me/ti--ny"], "give another"),
        (["--to", "me/tiny", "--only", "weights"], "dataset, model or gguf"),
        (["--to", "me/tiny", "--model", "spin"], "trained: sft, dpo"),
    ],
)
def test_a_wrong_request_says_what_is_right(run, capsys, arguments, mend):
    assert main(["push", "tiny", *arguments]) == 1
    assert mend in (said := capsys.readouterr().err) and said.count("\n") == 1


def test_an_unknown_licence_is_asked_for(run, monkeypatch, capsys):
    """Documents of unknown licence under CC BY are somebody's work given away."""
    change(run / "01_corpus_indexing", key={"params": {"corpus": "/home/somebody/letters"}})
    with hub(monkeypatch) as server:
        assert main(["push", "tiny", "--to", "me/tiny", "--yes", "--only", "dataset"]) == 1
        assert "--licence" in capsys.readouterr().err and server.calls == []
        assert main(["push", "tiny", "--to", "me/tiny", "--yes", "--only", "dataset", "--licence", "cc0-1.0"]) == 0
        card = server.repositories["dataset", "me/tiny"]["README.md"].decode()
    assert head(card)["license_name"] == "cc0-1.0-and-gemma-terms" and "somebody" not in card and "…/letters" in card


def test_held_out_rows_are_the_test_split_and_no_other(run):
    """A row that was trained on makes a test of whoever downloads the set."""
    held = {row["id"] for row in read_rows(run / "05_sft/held_out.parquet")}
    base = {row["id"] for row in read_rows(run / "04_filtering/base.parquet")}
    ids = {(one.name, one.split): {row["id"] for row in one.rows()} for one in sets_of(finished("tiny"))}
    assert held and ids["base", "test"] == held and ids["base", "train"] == base - held
    assert ids["refined", "train"] < ids["base", "train"]
    named = {name for row in read_rows(run / "04_filtering/base.parquet") for name in passage_ids(row)}
    assert ids["passages", "train"] == named & {
        row["id"] for row in read_rows(run / "01_corpus_indexing/chunks.parquet")
    }
    assert len(ids["rejects", "train"]) == 20


def test_rejects_with_a_benchmark_question_are_not_given_away(run):
    """Published, a test's question would be trained on by the next model."""
    path = run / "04_filtering/rejects.parquet"
    rows = read_rows(path)
    write_rows(path, [rows[0] | {"rule": "contamination"}, *rows[1:]], REJECT)
    ids = {row["id"] for one in sets_of(finished("tiny")) if one.name == "rejects" for row in one.rows()}
    assert rows[0]["id"] not in ids and len(ids) == 19


def test_kept_rows_of_other_people_are_counted_before_they_are_sent(run, capsys):
    """Whoever publishes a set that nobody licensed has to be told that it is in there."""
    path = run / "04_filtering/base.parquet"
    rows = read_rows(path)
    notes = ({"file": "a.jsonl", "line": "1", "licence": "not checked"}, {"file": "b.jsonl", "line": "1"})
    for row, note in zip(rows[1:], notes, strict=False):
        row |= {"source": note["file"][0], "meta": json.dumps(note)}
    write_rows(path, rows, CURATED)
    path = run / "06_dpo_pair_judging/preferences.parquet"
    pairs = read_rows(path)
    pairs[0] |= {"source": "c", "verdicts": json.dumps(notes[0])}
    write_rows(path, pairs, PREFERENCE)
    assert main(["push", "tiny", "--to", "me/tiny", "--only", "dataset"]) == 0
    told = [line.strip() for line in capsys.readouterr().out.splitlines() if "rows of" in line]
    terms = {"a": "not checked", "b": "not stated", "c": "not checked"}
    assert told == [f"rows of {name}: 1, licence: {licence}" for name, licence in terms.items()]


def test_errors_of_servers_are_not_given_away(run):
    """They name hosts of somebody's network and accounts at providers, and say nothing to whoever reads the set."""
    path = run / "02_rag_sft_synthesis/rejects.parquet"
    rows = read_rows(path)
    failed = {"id": "draft_1", "question": 'a text that says "error": "x"', "first": {"text": "", "error": ""}}
    told = failed | {"id": "draft_2", "first": {"error": "Cannot connect to host 10.0.0.5:8000"}}
    lost = [
        reject("02", "call_failed", failed | {"id": "draft_3"}, "in organization org-1"),
        *(reject("02", "empty", row) for row in (failed, told)),
    ]
    write_rows(path, rows + lost, REJECT)
    ids = {row["id"] for one in sets_of(finished("tiny")) if one.name == "rejects" for row in one.rows()}
    assert "draft_1" in ids and not ids & {"draft_2", "draft_3"}


def test_rejects_that_the_run_did_not_make_stay_at_home(run):
    """A set whose licence is silent, read whole, would leave row by row with what was left out of it."""
    filtering, judging = run / "04_filtering", run / "06_dpo_pair_judging"
    turns = [{"role": "user", "content": "問"}, {"role": "assistant", "content": '答 "call_0123456789abcdef0123"'}]
    opened = {"id": "conv_ffffffffffff", "messages": turns, "source": "rag", "call_ids": [], "meta": '{"file": "a"}'}
    unread = {"id": "id_1", "source": "rag", "item": {"call_ids": ["call_0123456789abcdef0123"]}}
    own = read_rows(filtering / "rejects.parquet")
    lost = [reject(filtering.name, "near_duplicate", opened), reject(filtering.name, "not_json", unread)]
    write_rows(filtering / "rejects.parquet", own + lost, REJECT)

    answer = {"model": "sft", "prompt": "問", "text": "答", "call_id": "call_0123456789abcdef0123"}
    parent = read_rows(filtering / "base.parquet")[0]["id"]
    made = [{"id": "pair_1", "first": answer, "second": answer}, {"id": parent, "sample": answer, "chosen": "答"}]
    foreign = [
        {"id": "conv_ffffffffffff", "sample": answer, "chosen": "an open set's answer"},
        {"id": "ver_1", "row": "conv_ffffffffffff", "answers": [answer]},
        {"id": "pref_1", "parents": ["conv_ffffffffffff"], "call_ids": [answer["call_id"]]},
        {"id": "pref_2", "source": "rlaif", "chosen": turns, "parents": [], "call_ids": []},
        {"id": "pair_2", "label": "none", "first": "答", "note": answer["call_id"]},
    ]
    write_rows(judging / "rejects.parquet", [reject(judging.name, "tie", row) for row in made + foreign], REJECT)
    finish(judging)
    given = [row["id"] for one in sets_of(finished("tiny")) if one.name == "rejects" for row in one.rows()]
    drafts = [row["id"] for row in read_rows(run / "02_rag_sft_synthesis/rejects.parquet")]
    assert given == [*drafts, *(row["id"] for row in own), "pair_1", parent]


def test_the_dataset_loads_as_its_card_says(run):
    """The Hub's viewer reads `configs`; without them tables of different columns are mixed."""
    from datasets import load_dataset

    folder = repositories("tiny", "me/tiny", "dataset")[0].files["README.md"].parent
    card = (folder / "README.md").read_text(encoding="utf-8")
    configs = {one["config_name"]: one["data_files"] for one in head(card)["configs"]}
    assert list(configs) == ["base", "refined", "preferences", "passages", "rejects"]
    cache = str(run / "cache")
    loaded = load_dataset(str(folder), "base", cache_dir=cache)
    assert {name: len(split) for name, split in loaded.items()} == {"train": 19, "test": 1}
    assert loaded["train"][0]["messages"][0]["role"] == "user"
    assert len(load_dataset(str(folder), "passages", split="train", cache_dir=cache)) == 13


def test_the_cards_say_what_a_stranger_must_know(run):
    """Sources, filters, leaks, what was cut from the model, and how to load it."""
    planned = {one.kind: one.files["README.md"].read_text(encoding="utf-8") for one in repositories("tiny", "me/tiny")}
    card = planned["dataset"]
    assert head(card)["size_categories"] == ["n<1K"] and head(card)["language"] == ["zh"]
    for words in ('load_dataset("me/tiny", "base"', "| near | 30 | 20 |", "copying 10", "33.3 % held Simplified"):
        assert words in card
    assert "| questions and answers | qwen-0.5b (Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF) |" in card
    card = planned["model"]
    assert head(card)["datasets"] == ["me/tiny"] and head(card)["license"] == "gemma"
    assert head(card)["model-index"][0]["results"]
    for words in (
        'pipeline("text-generation", "me/tiny")',
        "20,480 of 262,144",
        "| dpo | 3.250 |",
        "in 75.0 % of its 8",
    ):
        assert words in card
    assert head(planned["gguf"])["base_model"] == "me/tiny"


def test_the_pairs_have_a_card_beside_the_data(run):
    """Its snippet must name the files where they lie in the repository, not where the run keeps them."""
    files = repositories("tiny", "me/tiny", "dataset")[0].files
    card = files["PREFERENCES.md"].read_text(encoding="utf-8")
    for part in head(card)["configs"][0]["data_files"]:
        assert part["path"] in files and part["path"] in card.split("```python")[1]


def test_licences_are_told_from_what_was_used(tmp_path):
    """CC BY on a set whose pairs Gemma wrote contradicts the terms that the same card invokes."""
    found = {"01_corpus_indexing": {"key": {"params": {"corpus": "bundled"}}, "folder": tmp_path, "outputs": {}}}
    assert data_licence(found)["license"] == "cc-by-4.0"
    found["02_rag_sft_synthesis"] = {"key": {"params": {"model": "vllm"}}, "folder": tmp_path, "outputs": {}}
    assert known_as("vllm") == "vllm (google/gemma-2-2b-it)"  # an alias does not hide who wrote
    assert data_licence(found)["license_name"] == "cc-by-4.0-and-gemma-terms"
    for kind, licence in (("gemma2", "gemma"), ("gemma3n_text", "gemma"), ("gemma4", "unknown"), ("qwen2", "unknown")):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        assert model_licence(tmp_path) == licence and model_licence(tmp_path, "mit") == licence.replace(
            "unknown", "mit"
        )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("/home/me/docs", "…/docs"), ("../../me/docs", "…/docs"), ("~/x", "…/x"), ("Tome=/data/tome", "Tome=…/tome"),
        ("google/gemma-2-2b-it", "google/gemma-2-2b-it"), ("http://127.0.0.1:80/v1", "http://127.0.0.1:80/v1"),
        (["a", "/b/c.jsonl"], "['a', '…/c.jsonl']"), ("C:\\data\\x", "…/x"), (1.0e-4, "0.0001"),
    ],
)  # fmt: skip
def test_a_card_shows_no_folder_of_the_machine(value, shown):
    assert cards._private(value) == shown


def test_sizes_are_short():
    shown = [readable_size(size) for size in (0, 999, 1000, 453_759_272, 5.2e9)]
    assert shown == ["0 B", "999 B", "1 kB", "454 MB", "5.2 GB"]
