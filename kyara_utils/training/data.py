"""From conversation rows to rows that a trainer takes whole.

TRL truncates long rows at their end and then drops those that lost every supervised token, without a count.
Here a row is kept as it is or rejected under a named rule, so rows in = rows kept + rejects. A row is tokenised once:
its ids stay with it, about five bytes a token (a million rows of a thousand tokens are 5 GB beside their texts).
"""

import json
import logging
import random
from collections import defaultdict
from collections.abc import Sequence

from kyara_utils.models.chat_templates import TemplateError, check_turns, encode
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row, content_id, reject

log = logging.getLogger(__name__)
STEP = "05_sft"
RULES = ("bad_turns", "template", "too_long", "fully_masked", "several_bos")
MASKED = -100  # a label that no loss counts, as PyTorch's cross entropy ignores it


def prepare_conversations(rows: list[Row], tokenizer, max_length: int) -> tuple[list[Row], list[Row], dict[str, int]]:
    """Return (kept, rejects, counts) for training with at most `max_length` tokens a row.

    A kept row gains `tokens`, `supervised_tokens` and, as arrays, `input_ids` and `supervised` (1 where the loss
    counts); drop the arrays before writing the row. Counts: rows, kept, one per rule of `RULES`,
    system_folded (kept rows whose system turn was folded into the user turn), tokens, supervised_tokens. Holds all
    rows: good for some 1,000,000.
    """
    kept, rejects, counts = [], [], dict.fromkeys(("rows", "kept", *RULES, "system_folded"), 0)
    for row in rows:
        rule, detail, ids = _judge(row.get("messages") or [], tokenizer, max_length)
        counts["rows"] += 1
        counts[rule or "kept"] += 1
        if rule:
            rejects.append(reject(STEP, rule, row, detail))
            continue
        counts["system_folded"] += row["messages"][0]["role"] == "system"
        kept.append({**row, **ids})
    counts["tokens"] = sum(row["tokens"] for row in kept)
    counts["supervised_tokens"] = sum(row["supervised_tokens"] for row in kept)
    return kept, rejects, counts


def passes(rows: list[Row], epochs: float, tokens: int) -> float:
    """Return the passes over prepared rows: those that make about `tokens` tokens, or `epochs` where it is 0."""
    return tokens / sum(row["tokens"] for row in rows) if tokens and rows else epochs


def _judge(messages: list[dict[str, str]], tokenizer, max_length: int) -> tuple[str, str, Row]:
    """Return (rule, detail, what a kept row gains)."""
    if problem := check_turns(messages):
        return "bad_turns", problem, {}
    try:
        ids, mask = encode(tokenizer, messages)
    except TemplateError as error:
        return "template", str(error), {}
    if len(ids) > max_length:
        return "too_long", f"{len(ids)} tokens > {max_length}", {}
    if not sum(mask):
        return "fully_masked", "no supervised token; the chat template lacks generation tags", {}
    bos = tokenizer.bos_token
    if bos and any(bos in message["content"] for message in messages):
        return "several_bos", f"{ids.count(tokenizer.bos_token_id)} × {bos}", {}
    return "", "", {"tokens": len(ids), "supervised_tokens": sum(mask)} | _arrays(ids, mask)


def _arrays(ids: list[int], mask: list[int]) -> Row:
    import numpy as np

    return {"input_ids": np.asarray(ids, np.int32), "supervised": np.asarray(mask, np.uint8)}


def encoded(tokenizer, row: Row) -> tuple[Sequence[int], Sequence[int]]:
    """Return (token ids, mask) of a conversation row: those that `prepare_conversations` made, else by `encode`."""
    if row.get("input_ids") is not None:
        return row["input_ids"].tolist(), row["supervised"].tolist()
    return encode(tokenizer, row["messages"])


def training_row(tokenizer, row: Row) -> dict[str, list[int]]:
    """Return input_ids and labels of a conversation row, as a trainer takes them."""
    ids, mask = encoded(tokenizer, row)
    return {"input_ids": ids, "labels": [number if on else MASKED for number, on in zip(ids, mask, strict=True)]}


def without_ids(rows: list[Row]) -> list[Row]:
    """Return prepared rows as a table holds them, without their arrays of ids."""
    return [{name: value for name, value in row.items() if name not in ("input_ids", "supervised")} for row in rows]


def split_held_out(rows: list[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Return (training, held out) with about `share` of the rows held out; the input order does not matter.

    Rows that share a parent stay on one side, directly or through other rows, or the held-out loss would measure
    memory. Where retrieval ties most rows together, only rows of the same first parent do (their own document), which
    is said. A share above 0 holds out at least one such group; `KyaraError` where that would leave nothing to train on.
    """
    if not 0 <= share < 1:
        raise KyaraError(f"held_out_share {share} must be at least 0 and below 1")
    ordered = sorted(rows, key=lambda row: row["id"])
    groups = _tied(ordered)
    if share and max(map(len, groups.values()), default=0) > len(rows) / 2:
        groups = _tied([{**row, "parents": (row.get("parents") or [])[:1]} for row in ordered])
        log.info("held-out rows: most rows share passages, so they are kept apart by their own document only")
    if share and rows and len(groups) < 2:
        raise KyaraError(f"held_out_share {share}: all {len(rows)} rows are of one document; set it to 0.0")
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    chosen: set[str] = set()
    while share and len(order) > 1 and len(chosen) < max(1, round(share * len(rows))):
        chosen |= groups[order.pop()]
    return [row for row in ordered if row["id"] not in chosen], [row for row in ordered if row["id"] in chosen]


def _tied(rows: list[Row]) -> dict[str, set[str]]:
    """Ids of rows by the parents that tie them together: the components of the graph of rows and parents."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for row in rows:
        for parent in row.get("parents") or []:
            first, second = sorted((find(f"row {row['id']}"), find(parent)))
            leader[second] = first
    groups: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        groups[find(f"row {row['id']}")].add(row["id"])
    return groups


def fingerprint(rows: list[Row], *columns: str) -> str:
    """Return a hash of these columns of the rows, in order, for the key of a training run."""
    bodies = [[row[column] for column in columns] for row in rows]
    return content_id(json.dumps(bodies, ensure_ascii=False, sort_keys=True), prefix="", n=32)
