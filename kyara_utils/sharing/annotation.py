"""Rows for people to look at in Argilla 2: a folder as `Dataset.to_disk` writes it and `Dataset.from_disk` reads it.

The order of a pair's two answers follows from its id, so that nobody can tell the preferred one by its place; which it
is stands in metadata that annotators do not see.
"""

import hashlib
from typing import Any

from kyara_utils.runs.tables import Row
from kyara_utils.sharing.layouts import is_pair
from kyara_utils.sharing.source_texts import as_text

ROWS_GUIDE = (
    "請對照文件檢查回答：事實正確、有依據、使用臺灣的用語，就選 keep；小錯請選 correct 並改寫；無法使用就選 drop。"
)
PAIRS_GUIDE = "兩個回答的順序是隨機的。請選出較有幫助、較正確的一個；一樣好或一樣差就選 tie。"


def settings(pairs: bool) -> Row:
    """`.argilla/settings.json` of the rows or of the pairs."""
    if pairs:
        fields = [_chat("prompt"), _text("answer_1"), _text("answer_2")]
        questions = [_labels("preferred", ("answer_1", "answer_2", "tie")), _comment("reason")]
    else:
        fields = [_chat("conversation")]
        questions = [_labels("verdict", ("keep", "correct", "drop")), _comment("correction")]
    metadata = [_metadata("source", "terms"), _metadata("split", "terms")]
    metadata += [_metadata("chosen", "terms", seen=False)] if pairs else [_metadata("score", "float")]
    return {
        "guidelines": PAIRS_GUIDE if pairs else ROWS_GUIDE, "fields": [*fields, _text("passages", required=False)],
        "questions": questions, "metadata": metadata, "vectors": [], "allow_extra_metadata": False,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
    }  # fmt: skip


def dataset(name: str, guidelines: str) -> Row:
    """`.argilla/dataset.json`."""
    return {"name": name, "status": "ready", "guidelines": guidelines, "allow_extra_metadata": False}


def record(row: Row, passages: list[Row], split: str) -> Row:
    """One record as `Record.to_dict` writes it."""
    metadata = {"source": row["source"], "split": split}
    if is_pair(row):
        first = ("chosen", "rejected")[hashlib.blake2b(row["id"].encode()).digest()[0] % 2]
        sides = [row[side][-1]["content"] for side in ("chosen", "rejected")]
        answers = sides if first == "chosen" else sides[::-1]
        fields = {"prompt": row["prompt"], "answer_1": answers[0], "answer_2": answers[1]}
        metadata["chosen"] = "answer_1" if first == "chosen" else "answer_2"
    else:
        fields = {"conversation": row["messages"]}
        metadata |= {"score": row["score"]} if row.get("score") is not None else {}
    fields |= {"passages": as_text(passages)} if passages else {}
    return {
        "id": row["id"], "fields": fields, "metadata": metadata, "suggestions": {}, "responses": {}, "vectors": {},
    }  # fmt: skip


def _part(name: str, kind: str, required: bool = True, **more: Any) -> Row:
    settings = {"type": kind} | more
    return {"name": name, "title": name, "required": required, "type": kind, "settings": settings}


def _chat(name: str) -> Row:
    return _part(name, "chat", use_markdown=True)


def _text(name: str, required: bool = True) -> Row:
    return _part(name, "text", required, use_markdown=True)


def _comment(name: str) -> Row:
    return _part(name, "text", required=False, use_markdown=False)


def _labels(name: str, labels: tuple[str, ...]) -> Row:
    options = [{"text": label, "value": label} for label in labels]
    return _part(name, "label_selection", options=options, visible_options=len(labels))


def _metadata(name: str, kind: str, seen: bool = True) -> Row:
    return {"name": name, "title": name, "visible_for_annotators": seen, "settings": {"type": kind}}
