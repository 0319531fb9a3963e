"""One row as its story: the same fields whatever table it comes from, in the order in which things happened to it."""

from typing import Any

from kyara_utils.report.site.entries import REJECT
from kyara_utils.runs.calls import parsed
from kyara_utils.runs.tables import Row

EMPTY: Row = {
    "question": "", "document": "", "document_title": "", "document_text": "", "persona": "", "evolution": {},
    "queries": [], "hits": [], "digests": [], "context": [], "turns": [], "choices": [], "checks": [], "cited": "",
    "followups": [], "verdict": {}, "rule": "", "stage": "", "detail": "", "tags": [], "score": None, "lang": "",
    "source": "", "facts": {},
}  # fmt: skip
FACTS = {  # of `meta` or a draft, worth a line under the checks
    "model": "teacher", "question_kind": "kind of question", "unsupported": "sentences without support",
    "answerable": "answerable from the documents shown", "votes": "solutions that agree",
    "check": "arithmetic", "unverified_because": "not computed because", "verdict_log_odds": "log-odds of right",
    "answer": "final answer", "source_file": "file", "path": "path",
}  # fmt: skip


def story_of(kind: str, row: Row) -> Row:
    """The fields of `EMPTY` for a row of a training table, of a table of pairs, or a reject."""
    if kind != REJECT:
        return _told(row)
    body = parsed(row["row"])
    told = _told(body if isinstance(body, dict) else {"text": str(body)})
    return told | {"rule": row["rule"] or "", "detail": row["detail"] or ""}


def _told(row: Row) -> Row:
    meta = parsed(row.get("meta") or {})
    both = row | (meta if isinstance(meta, dict) else {})
    chunk = row.get("chunk") if isinstance(row.get("chunk"), dict) else {}
    told = EMPTY | {key: row[key] for key in ("lang", "tags", "score", "stage") if row.get(key) is not None}
    told |= {
        key: both[key] for key in ("persona", "evolution", "queries", "hits", "digests", "checks") if both.get(key)
    }
    told |= {"turns": _turns(row), "choices": _choices(row), "verdict": _verdict(row), "source": _source(row, both)}
    told |= {"document": both.get("document") or chunk.get("id") or "", "context": _ids(both.get("context"))}
    told["document_title"] = both.get("title") or chunk.get("title") or both.get("path") or ""
    told["document_text"] = chunk.get("text") or ("" if told["turns"] else row.get("text") or "")
    told["followups"] = (both.get("followup") or {}).get("tried", [])
    told["cited"] = both.get("citations") or both.get("cited") or ""
    told["question"] = _question(both, told)
    told["facts"] = _facts(both, told)
    return told


def _facts(both: Row, told: Row) -> Row:
    names = {key: name for key, name in FACTS.items() if key != "answer" or told["persona"]}
    facts = {name: both[key] for key, name in names.items() if both.get(key) not in (None, "", [], {})}
    return {name: value for name, value in facts.items() if not isinstance(value, dict | list)}


def _ids(context: Any) -> list[str]:
    """Ids of the documents shown: `meta` holds ids, a draft the documents."""
    items = context if isinstance(context, list) else []
    return [item["id"] if isinstance(item, dict) else str(item) for item in items]


def _turns(row: Row) -> list[Row]:
    """{role, content} of a conversation, or of a draft as far as it came."""
    if row.get("messages"):
        return [dict(message) for message in row["messages"]]
    if row.get("first") or row.get("chosen"):
        return []
    pairs = [(row.get("question") or row.get("problem"), row.get("answer") or row.get("solution"))]
    pairs += row.get("rounds") or []
    turns = [(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
    return [{"role": role, "content": str(text)} for role, text in turns if text]


def _choices(row: Row) -> list[Row]:
    """{label, model, text} of the answers that a pair compares."""
    found = []
    for side in ("chosen", "rejected", "first", "second", "sample"):
        value = row.get(side)
        if isinstance(value, list) and value:
            found.append({"label": side, "model": row.get(f"{side}_model") or "", "text": value[-1]["content"]})
        elif isinstance(value, dict):
            found.append({"label": side, "model": value.get("model") or "", "text": value.get("text") or ""})
        elif isinstance(value, str) and value:
            found.append({"label": side, "model": "", "text": value})
    return found


def _verdict(row: Row) -> Row:
    found = parsed(row.get("verdicts") or row.get("verdict") or {})
    return {key: value for key, value in found.items() if key != "call_ids"} if isinstance(found, dict) else {}


def _source(row: Row, both: Row) -> str:
    kind = "math" if row.get("problem") else both.get("kind")
    return str(row.get("source") or kind or ("judged pair" if row.get("first") else "") or "document")


def _question(both: Row, told: Row) -> str:
    prompt = both.get("prompt")
    asked = prompt[-1]["content"] if isinstance(prompt, list) and prompt else prompt
    first = next((turn["content"] for turn in told["turns"] if turn["role"] == "user"), "")
    return str(both.get("question") or asked or first or told["document_title"] or both.get("id") or "")


def verdict_word(told: Row) -> str:
    """The one word by which the list of rows can be filtered; "" where nothing was judged."""
    if outcome := told["verdict"].get("outcome"):
        return f"judge: {outcome}"
    answerable = told["facts"].get("answerable from the documents shown")
    if answerable is not None:
        return "answerable" if answerable else "unanswerable"
    if told["hits"]:
        return "relevant passages" if any(hit.get("relevant") for hit in told["hits"]) else "no relevant passage"
    return f"arithmetic: {told['facts']['arithmetic']}" if "arithmetic" in told["facts"] else ""


def text_of(told: Row) -> str:
    """All that a search in whole rows looks at."""
    parts = [turn["content"] for turn in told["turns"]] + [choice["text"] for choice in told["choices"]]
    return "\n".join(str(part) for part in (told["question"], *parts, told["document_text"], told["detail"]))
