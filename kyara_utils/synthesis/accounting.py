"""The account of a synthesis: how many drafts of each kind passed each stage, what ended the rest, what is reported."""

import json
from collections import Counter
from collections.abc import Iterable

from kyara_utils.runs.funnel import Funnel, funnel_of_stages
from kyara_utils.runs.tables import Row

STAGES = ("question", "answer", "checks")  # at which a draft can end, in order
SOURCES = ("rag", "followup", "rag_cited", "rag_short", "document")


def drafts_begun(drafts: Iterable[Row], no_question: Iterable[Row], documents: int) -> dict[str, int]:
    """Return how many drafts were begun, by kind: those with a question and those rejected for want of one."""
    begun = Counter(draft["kind"] for draft in drafts)
    begun += Counter(json.loads(row["row"])["kind"] for row in no_question)
    short = {"rag_short": begun["rag_short"]} if begun["rag_short"] else {}
    return {"rag": begun["rag"], "rag_cited": begun["rag_cited"], **short, "document": documents}


def account(begun: dict[str, int], rows: list[Row], rejects: list[Row]) -> Funnel:
    """Return the funnel of a run, checked: rows in = rows out + rejects for each kind, no row without its origin.

    Raises AssertionError, with the row or kind that breaks it.
    """
    funnel = funnel_of_stages(begun, STAGES, rejects)
    funnel.check()
    left = {entry["source"]: entry["rows_out"] for entry in funnel.rows()}
    out = Counter("rag" if row["source"] == "followup" else row["source"] for row in rows)
    if left != {kind: out[kind] for kind in begun}:
        raise AssertionError(f"rows by kind {dict(out)}, but {left} passed all stages")
    for row in rows:
        roles = [message["role"] for message in row["messages"]]
        if roles != ["user", "assistant"] * (len(roles) // 2) or not (row["parents"] and row["call_ids"]):
            raise AssertionError(f"{row['id']} has no document, no call or rounds out of order")
    return funnel


def rule_rows(rejects: list[Row]) -> list[Row]:
    """Return {stage, source, rule, rows}: what each rule removed, stage by stage, most first."""
    kinds = {json.loads(row["row"])["kind"]: 0 for row in rejects}
    return funnel_of_stages(kinds, STAGES, rejects).rules()


def one_of_each_rule(rejects: list[Row]) -> dict[str, str]:
    """Return {rule: the finding of one reject}: a filter should be judged by what it throws away."""
    return {row["rule"]: row["detail"] for row in rejects}


def metrics(begun: dict[str, int], rows: list[Row], drafts: list[Row], tried: list[Row], threshold: float = 0.0) -> Row:
    """Return what the manifest says of a run: rows by source, tried and written, evolutions, verdicts, expansions."""
    out = {source: sum(row["source"] == source for row in rows) for source in SOURCES}
    written = {"rag": [begun["rag"] - out["followup"], out["rag"]], "followup": [out["followup"]] * 2}
    written |= {kind: [begun[kind], out[kind]] for kind in begun if kind != "rag"}
    return out | {
        "evolved": sum(not draft["evolution"]["rule"] for draft in tried),
        "relevant": sum(hit["relevant"] for draft in drafts for hit in draft["hits"]),
        "relevance_threshold": threshold,
        "without_queries": sum(not draft["queries"] for draft in drafts),
        "written": written,
    }
