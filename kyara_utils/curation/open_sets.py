"""Published conversation sets beside our own rows: from the Hub by name, or from files in any usual layout.

A row that is no conversation becomes a reject row with file and line; no row stops the step.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kyara_utils.curation.language import language_of
from kyara_utils.curation.published_files import UNCHECKED, PublishedSet, nothing_read, opened, origin, read_item
from kyara_utils.curation.rows import STEP
from kyara_utils.curation.turns import LISTS, PAIRS, messages_of
from kyara_utils.runs import content_id
from kyara_utils.runs.schemas import CONVERSATION
from kyara_utils.runs.stored_rows import StoredRows, stored
from kyara_utils.runs.tables import Row

OPEN_SETS = {
    "OpenHermes-2.5": PublishedSet("teknium/OpenHermes-2.5", UNCHECKED, "conversations[from, value], system_prompt"),
    "The-Tome": PublishedSet("arcee-ai/The-Tome", "mit", "conversations[from, value]"),
    "kyara-chinese-math-sft-s0-30K": PublishedSet(
        "zake7749/kyara-chinese-math-sft-s0-30K", UNCHECKED, "messages[role, content]"
    ),
    "chinese-sft-stem-zh-hant": PublishedSet("zake7749/chinese-sft-stem-zh-hant", UNCHECKED, "messages[role, content]"),
    "chinese-sft-stem-zh-hans": PublishedSet("zake7749/chinese-sft-stem-zh-hans", UNCHECKED, "messages[role, content]"),
    "stem_zh_instruction": PublishedSet("hfl/stem_zh_instruction", UNCHECKED, "instruction, input, output"),
    "Evol-Instruct-Chinese-GPT4": PublishedSet(
        "FreedomIntelligence/Evol-Instruct-Chinese-GPT4", UNCHECKED, "conversations[from, value]"
    ),
    "Magpie-Qwen2-Pro-200K-Chinese": PublishedSet(
        "Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese", UNCHECKED, "conversations[from, value]"
    ),
}
FIELDS = (*LISTS, *(field for pair in PAIRS for field in pair))  # that hold a conversation, in any layout


def read_open_sets(entries: list[str], root: Path) -> tuple[StoredRows, list[Row]]:
    """Read sets into (conversation rows, rejects). Only the rejects are held, some 2 kB each.

    An entry is a name of `OPEN_SETS` (read from the Hub), `NAME=PATH` for a local copy of one in its published layout,
    or the path of a file or folder of your own (.parquet, .jsonl, .json); `source` is the name, or the file's name.
    """
    rejects: list[Row] = []
    return stored(_readable(entries, root, rejects), CONVERSATION), rejects


def _readable(entries: list[str], root: Path, rejects: list[Row]) -> Iterator[Row]:
    for entry in entries:
        name, licence, items = opened(entry, root, OPEN_SETS)
        found, before = False, len(rejects)
        for place, item in items:
            row, rejected = _row(item, name, licence, place)
            if rejected:
                rejects.append(rejected)
            else:
                found = True
                yield row
        if not found:
            raise nothing_read(entry, "conversation", next(iter(rejects[before:][-1:]), None), FIELDS)


def _row(item: Any, name: str, licence: str, place: str) -> tuple[Row, Row | None]:
    """The conversation row of an item, and its reject row if it is none."""
    messages, rejected = read_item(messages_of, item, STEP, name, place)
    if rejected:
        return {}, rejected
    spoken = "\n".join(message["content"] for message in messages if message["role"] != "system")
    return {
        "id": content_id(json.dumps(messages, ensure_ascii=False), prefix="conv_", n=12),
        "messages": messages,
        "lang": language_of(spoken),
        "source": name,
        "parents": [],
        "call_ids": [],
        "meta": json.dumps(origin(place, licence)),
    }, None
