"""Published conversation sets beside our own rows: OpenHermes, The-Tome and the like, from local files.

Three layouts are met in the wild and read here: `messages` (role/content), `conversations` (ShareGPT: from/value) and
`instruction`/`input`/`output` (Alpaca). Anything else is an error that names the file.
"""

import json
from pathlib import Path
from typing import Any

from kyara_utils.curation.language import language_of
from kyara_utils.runs import KyaraError, content_id, read_jsonl, read_rows

Row = dict[str, Any]
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def read_open_sets(paths: list[str], root: Path) -> list[Row]:
    """Read conversation files (`.parquet`, `.jsonl`); `source` is the file's name without its ending."""
    return [row for path in paths for row in read_open_set(root / path)]


def read_open_set(path: Path) -> list[Row]:
    """Read one file into conversation rows (DESIGN §3)."""
    if not path.is_file():
        raise KyaraError(f"no open set {path}; give .parquet or .jsonl files that exist")
    items = read_rows(path) if path.suffix == ".parquet" else read_jsonl(path)
    return [_conversation(item, path) for item in items]


def _conversation(item: Row, path: Path) -> Row:
    messages = turns_of(item)
    if not messages:
        raise KyaraError(f"{path}: a row has none of messages, conversations, instruction/output; rename its fields")
    body = json.dumps(messages, ensure_ascii=False)
    return {
        "id": content_id(body, prefix="conv_", n=12),
        "messages": messages,
        "lang": language_of("\n".join(message["content"] for message in messages)),
        "source": path.stem,
        "parents": [],
        "call_ids": [],
        "meta": json.dumps({"file": path.name}),
    }


def turns_of(item: Row) -> list[dict[str, str]]:
    """Messages of a row in any of the three layouts; [] when it is none of them."""
    if item.get("messages"):
        return [{"role": m["role"], "content": m["content"]} for m in item["messages"]]
    if item.get("conversations"):
        return [{"role": ROLES.get(m["from"], m["from"]), "content": m["value"]} for m in item["conversations"]]
    if item.get("instruction") and item.get("output"):
        asked = "\n".join(part for part in (item["instruction"], item.get("input", "")) if part)
        return [{"role": "user", "content": asked}, {"role": "assistant", "content": item["output"]}]
    return []
