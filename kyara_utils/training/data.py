"""From conversation rows to rows that a trainer takes whole.

TRL truncates long rows at their end and then drops those that lost every supervised token, without a count.
Here a row is kept as it is or rejected under a named rule, so rows in = rows kept + rejects.
"""

import json
import random
from collections import defaultdict
from typing import Any

from kyara_utils.models.chat_templates import check_turns, encode
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import content_id, reject

Row = dict[str, Any]
STEP = "05_sft"
RULES = ("bad_turns", "too_long", "fully_masked", "several_bos")


def prepare_conversations(rows: list[Row], tokenizer, max_length: int) -> tuple[list[Row], list[Row], dict[str, int]]:
    """Return (kept, rejects, counts) for training with at most `max_length` tokens a row.

    A kept row gains `tokens` and `supervised_tokens`. Counts: rows, kept, one per rule of `RULES`,
    system_folded (kept rows whose system turn was folded into the user turn), tokens, supervised_tokens.
    """
    kept, rejects, counts = [], [], dict.fromkeys(("rows", "kept", *RULES, "system_folded"), 0)
    for row in rows:
        rule, detail, sizes = _judge(row.get("messages") or [], tokenizer, max_length)
        counts["rows"] += 1
        counts[rule or "kept"] += 1
        if rule:
            rejects.append(reject(STEP, rule, row, detail))
            continue
        counts["system_folded"] += row["messages"][0]["role"] == "system"
        kept.append({**row, "tokens": sizes[0], "supervised_tokens": sizes[1]})
    counts["tokens"] = sum(row["tokens"] for row in kept)
    counts["supervised_tokens"] = sum(row["supervised_tokens"] for row in kept)
    return kept, rejects, counts


def _judge(messages: list[dict[str, str]], tokenizer, max_length: int) -> tuple[str, str, tuple[int, int]]:
    problem = check_turns(messages)
    if problem:
        return "bad_turns", problem, (0, 0)
    ids, mask = encode(tokenizer, messages)
    sizes = len(ids), sum(mask)
    if len(ids) > max_length:
        return "too_long", f"{len(ids)} tokens > {max_length}", sizes
    if not sizes[1]:
        return "fully_masked", "no supervised token; the chat template lacks generation tags", sizes
    if ids.count(tokenizer.bos_token_id) != 1:
        return "several_bos", f"{ids.count(tokenizer.bos_token_id)} × {tokenizer.bos_token}", sizes
    return "", "", sizes


def split_held_out(rows: list[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Return (training, held out) with about `share` of the rows held out; the input order does not matter.

    Rows made from the same parents stay on one side, or the held-out loss would measure memory.
    """
    if not 0 <= share < 1:
        raise KyaraError(f"held-out share {share} must be at least 0 and below 1")
    groups = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["id"]):
        parents = sorted(row.get("parents") or []) or [row["id"]]
        groups[content_id(*parents)].append(row)
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    held_out: list[Row] = []
    while order and len(held_out) < round(share * len(rows)):
        held_out += groups.pop(order.pop())
    train = [row for name in sorted(order) for row in groups[name]]
    return sorted(train, key=lambda row: row["id"]), sorted(held_out, key=lambda row: row["id"])


def fingerprint(rows: list[Row], *columns: str) -> str:
    """Return a hash of these columns of the rows, in order, for the key of a training run."""
    bodies = [[row[column] for column in columns] for row in rows]
    return content_id(json.dumps(bodies, ensure_ascii=False, sort_keys=True), prefix="", n=32)
