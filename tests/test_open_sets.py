"""Published sets in step 04: every layout read, every bad row a reject with file and line, none that stops the step."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kyara_utils.curation import published_files
from kyara_utils.curation.filters import Filters
from kyara_utils.curation.open_sets import OPEN_SETS, read_open_sets
from kyara_utils.curation.turns import Unreadable, messages_of
from kyara_utils.runs import KyaraError
from kyara_utils.runs.schemas import CONVERSATION
from kyara_utils.runs.tables import write_rows

ASK, REPLY = "台灣最高的山是哪一座？", "台灣最高的山是玉山。"
USER, MODEL = {"role": "user", "content": ASK}, {"role": "assistant", "content": REPLY}
PLAIN = [USER, MODEL]
SYSTEM = {"role": "system", "content": "你是助理。"}
SHARED = [{"from": "human", "value": ASK}, {"from": "gpt", "value": REPLY}]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"messages": PLAIN}, PLAIN),
        ({"conversations": SHARED, "system_prompt": None}, PLAIN),
        ({"conversations": json.dumps(SHARED)}, PLAIN),
        ({"conversations": SHARED, "system_prompt": "你是助理。"}, [SYSTEM, *PLAIN]),
        ({"messages": [SYSTEM, *PLAIN], "system": "別的"}, [SYSTEM, *PLAIN]),
        ({"conversations": [{"from": "Human", "value": ASK}, {"from": "ASSISTANT", "value": REPLY}]}, PLAIN),
        ({"messages": [{"role": "prompter", "text": ASK}, {"role": "bot", "text": REPLY}]}, PLAIN),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ASK}]}, MODEL]}, PLAIN),
        ({"messages": [USER, USER, MODEL]}, [{"role": "user", "content": f"{ASK}\n\n{ASK}"}, MODEL]),
        ({"messages": [*PLAIN, USER]}, PLAIN),
        ({"instruction": ASK, "input": "", "output": REPLY}, PLAIN),
        (
            {"instruction": "回答問題。", "input": ASK, "output": REPLY},
            [{**USER, "content": f"回答問題。\n{ASK}"}, MODEL],
        ),
        ({"instruction": ASK, "output": REPLY, "history": [[ASK, REPLY]], "system": ""}, PLAIN + PLAIN),
        ({"instruction": ASK, "response": REPLY}, PLAIN),
        ({"question": ASK, "answer": REPLY}, PLAIN),
        ({"input": ASK, "output": REPLY}, PLAIN),
    ],
)
def test_rows_of_every_layout_are_read_rightly(item: dict, expected: list) -> None:
    """Mixed spellings, a system prompt beside the turns and several turns in a row are no faults."""
    assert messages_of(item) == expected


@pytest.mark.parametrize(
    ("item", "rule"),
    [
        ({"messages": [{"role": "user", "content": None}, MODEL]}, "empty_turn"),
        ({"messages": [{"role": "user", "content": "  "}, MODEL]}, "empty_turn"),
        ({"messages": [{"role": "user"}, MODEL]}, "empty_turn"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, MODEL]}, "not_text"),
        ({"messages": [{"role": "user", "content": 5}, MODEL]}, "not_text"),
        ({"messages": [{"role": "user", "content": "\ud800"}, MODEL]}, "not_text"),
        ({"messages": [USER, {"role": "tool", "content": "{}"}, MODEL]}, "tool_turn"),
        ({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{}]}]}, "tool_turn"),
        ({"conversations": [SHARED[0], {"from": "function-call", "value": "f()"}, SHARED[1]]}, "tool_turn"),
        ({"messages": [USER, {"role": "critic", "content": "好"}]}, "unknown_role"),
        ({"messages": [{"content": ASK}, MODEL]}, "unknown_role"),
        ({"messages": [USER, SYSTEM, MODEL]}, "unknown_role"),
        ({"messages": [MODEL]}, "no_question"),
        ({"messages": [SYSTEM]}, "no_question"),
        ({"messages": [USER]}, "no_answer"),
        ({"messages": [SYSTEM, USER]}, "no_answer"),
        ({"messages": [ASK, REPLY]}, "no_conversation"),
        ({"messages": []}, "no_conversation"),
        ({"text": ASK}, "no_conversation"),
        ({"instruction": ASK, "output": REPLY, "history": ["?"]}, "no_conversation"),
        ({"instruction": ASK, "output": REPLY, "history": 3}, "no_conversation"),
        ({"instruction": ASK, "output": ""}, "empty_turn"),
        ([ASK], "no_conversation"),
        (None, "no_conversation"),
    ],
)
def test_what_is_no_conversation_is_named(item: object, rule: str) -> None:
    """Each fault has its rule, so that the funnel shows what a set is made of."""
    with pytest.raises(Unreadable) as raised:
        messages_of(item)
    assert raised.value.rule == rule and str(raised.value)


def test_bad_rows_of_a_file_are_rejects_with_their_line(tmp_path: Path) -> None:
    """Rows in = rows + rejects, whatever stands in the file, and what is kept fits the table's types."""
    lines = [json.dumps({"messages": PLAIN}), "{broken", "", json.dumps({"messages": [USER]}), "\u2028[]", "7"]
    lines += [json.dumps({"messages": [{"role": "user", "content": None}]}), json.dumps({"conversations": SHARED})]
    path = tmp_path / "mine.jsonl"
    path.write_bytes("\n".join(lines).encode() + b'\n{"messages": "\xff\xfe"}\n' + b"[" * 200_000)
    rows, rejects = read_open_sets([path.name], tmp_path)
    assert [json.loads(row["meta"])["line"] for row in rows] == ["1", "8"]
    found = {item["detail"].partition(" ")[0]: item["rule"] for item in rejects}
    assert found == {
        "mine.jsonl:2:": "not_json", "mine.jsonl:3:": "not_json", "mine.jsonl:4:": "no_answer",
        "mine.jsonl:5:": "not_json", "mine.jsonl:6:": "no_conversation", "mine.jsonl:7:": "empty_turn",
        "mine.jsonl:9:": "not_json", "mine.jsonl:10:": "not_json",
    }  # fmt: skip
    write_rows(tmp_path / "rows.parquet", rows, CONVERSATION)
    work = Filters(rows)
    work.unread(rows, rejects)
    work.check()
    assert work.incoming == 10
    assert work.funnel.rows() == [{"stage": "read", "source": "mine", "rows_in": 10, "rows_out": 2}]
    assert len(work.examples()) == len({item["rule"] for item in rejects})


def test_arrays_are_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenHermes is one array of gigabytes: items may begin and end anywhere in a piece."""
    items = [{"conversations": SHARED, "title": "[,]" * n} for n in range(40)]
    (tmp_path / "array.json").write_text("\ufeff " + json.dumps(items, indent=1, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "lines.json").write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    (tmp_path / "cut.json").write_text(json.dumps(items)[:-20], encoding="utf-8")
    for size in (7, 64, 1 << 20):
        monkeypatch.setattr(published_files, "CHUNK", size)
        assert len(read_open_sets(["array.json"], tmp_path)[0]) == 40
    assert len(read_open_sets(["lines.json"], tmp_path)[0]) == 40
    with pytest.raises(KyaraError, match="cut.json: item 40 is not JSON"):
        read_open_sets(["cut.json"], tmp_path)


PUBLISHED = {  # a row of each set, in the file layout of its repository
    "OpenHermes-2.5": (
        "openhermes2_5.json",
        {"conversations": SHARED, "source": "x", "system_prompt": None, "id": None},
    ),
    "The-Tome": ("data/train-00000-of-00001.parquet", {"conversations": SHARED, "dataset": "magpie"}),
    "kyara-chinese-math-sft-s0-30K": ("data/train-00000-of-00001.parquet", {"messages": PLAIN}),
    "chinese-sft-stem-zh-hant": ("data/train-00000-of-00001.parquet", {"messages": PLAIN}),
    "chinese-sft-stem-zh-hans": ("data/train-00000-of-00001.parquet", {"messages": PLAIN}),
    "stem_zh_instruction": ("bio.json", {"instruction": ASK, "input": "", "output": REPLY}),
    "Evol-Instruct-Chinese-GPT4": ("evol.json", {"conversations": SHARED, "id": 0}),
    "Magpie-Qwen2-Pro-200K-Chinese": (
        "data/train-00000-of-00001.parquet",
        {
            "uuid": "u",
            "instruction": ASK,
            "response": REPLY,
            "conversations": SHARED,
            "gen_input_configs": {"seed": None},
        },
    ),
}


@pytest.mark.parametrize("name", sorted(OPEN_SETS))
def test_named_sets_are_read_from_a_local_copy(name: str, tmp_path: Path) -> None:
    """Each set of the card, in its published layout; the licence goes along with every row."""
    file, item = PUBLISHED[name]
    path = tmp_path / "copy" / file
    path.parent.mkdir(parents=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([item]), path)
    else:
        path.write_text(json.dumps([item]), encoding="utf-8")
    (tmp_path / "copy" / "dataset_infos.json").write_text("{}", encoding="utf-8")
    rows, rejects = read_open_sets([f"{name}=copy"], tmp_path)
    assert [row["messages"] for row in rows] == [PLAIN] and not rejects
    assert rows[0]["source"] == name and json.loads(rows[0]["meta"])["licence"] == OPEN_SETS[name].licence


def test_named_sets_are_streamed_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name alone asks the Hub for the training split, and says what to do when there is none to reach."""
    import datasets

    def load(repository: str, **options: object) -> list[dict]:
        assert repository == "arcee-ai/The-Tome" and options == {"split": "train", "streaming": True}
        return [{"conversations": SHARED}, {"conversations": []}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    rows, rejects = read_open_sets(["The-Tome"], tmp_path)
    assert len(rows) == 1 and rejects[0]["detail"].startswith("arcee-ai/The-Tome:2")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: 1 / 0)
    with pytest.raises(KyaraError, match="cannot read arcee-ai/The-Tome after 0 rows: .*NAME=PATH"):
        read_open_sets(["The-Tome"], tmp_path)


def test_sets_that_give_nothing_stop_with_one_line(tmp_path: Path) -> None:
    """A missing file, an unknown name and a file of another kind are said at once, with the remedy."""
    lines = {"other": {"text": "x"}, "typed": {"instruction": ASK, "ouput": REPLY}, "listed": {"conversatons": SHARED}}
    for name, row in lines.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (tmp_path / "rows.csv").touch()
    (tmp_path / "empty.jsonl").touch()
    for entry, message in (
        ("other.jsonl", "gives no conversation.*other.jsonl:1: fields text; rename its fields, or leave"),
        ("typed.jsonl", "fields instruction, ouput; rename ouput to output"),
        ("listed.jsonl", "rename conversatons to conversations"),
        ("The-Tome=listed.jsonl", "listed.jsonl:1: The-Tome has no field conversations .nearest is conversatons.;"),
        ("OpenHermes-2.5=other.jsonl", "has no field conversations .found: text.; give its published layout"),
        ("empty.jsonl", "it is empty"), ("none.jsonl", "no open set none.jsonl.*known: OpenHermes-2.5, The-Tome"),
        ("openhermes-2.5", "did you mean OpenHermes-2.5?"), ("teknium/OpenHermes-2.5", "did you mean OpenHermes-2.5?"),
        ("Tome=x", "'Tome' is not known; did you mean The-Tome?"), ("The-Tome=x", "no open set in .*/x; give"),
        ("rows.csv", "no open set in .*rows.csv; give a name, or .parquet"),
    ):  # fmt: skip
        with pytest.raises(KyaraError, match=message) as raised:
            read_open_sets([entry], tmp_path)
        assert "\n" not in str(raised.value)


def test_the_last_row_of_another_set_is_not_blamed(tmp_path: Path) -> None:
    """The second set is empty; a message about the first one's file sends its reader the wrong way."""
    (tmp_path / "good.jsonl").write_text(json.dumps({"messages": PLAIN}) + "\n7\n", encoding="utf-8")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(KyaraError, match="open set empty.jsonl gives no conversation; the last row: it is empty"):
        read_open_sets(["good.jsonl", "empty.jsonl"], tmp_path)


def test_a_copy_is_read_like_the_training_split_of_the_hub(tmp_path: Path) -> None:
    """Test files beside the training files would leak; a copy in a cache lies below hidden folders; some are packed."""
    copy = tmp_path / ".cache" / "copy"
    for name in ("one/train.jsonl.gz", "two/train.jsonl.gz", "one/test.jsonl.gz", "constraints.jsonl"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        opener = gzip.open if name.endswith(".gz") else open
        with opener(copy / name, "wt", encoding="utf-8") as out:
            out.write(json.dumps({"messages": PLAIN}) + "\n[]\n")
    rows, rejects = read_open_sets([".cache/copy"], tmp_path)
    assert len(rows) == 2 and [item["detail"][:21] for item in rejects] == [
        "one/train.jsonl.gz:2:",
        "two/train.jsonl.gz:2:",
    ]
    assert read_open_sets([".cache/copy/one/test.jsonl.gz"], tmp_path)[0][0]["source"] == "test"
