"""A row in the columns of other people's tools, with the passages that it was made from.

TRL: "Dataset formats and types" of its documentation, conversational language modeling and preference. ShareGPT:
`conversations` of `from` (system, human, gpt) and `value`, as FastChat introduced it; pairs as LLaMA-Factory's
`data/README.md` has them (a ranking set in sharegpt formatting). Data Designer: a seed is any flat table, whose columns
are names in its prompts.
"""

from typing import Any

import pyarrow as pa

from kyara_utils.runs import answer, question
from kyara_utils.runs.schemas import MESSAGES, schema
from kyara_utils.runs.tables import Row, turns
from kyara_utils.sharing.source_texts import as_text

SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt"}
TURN = pa.struct([("from", pa.string()), ("value", pa.string())])
SOURCE_TEXTS = pa.list_(pa.struct([(name, pa.string()) for name in ("id", "title", "text")]))
COMMON = {"id": str, "source": str, "passages": SOURCE_TEXTS}
TRL = schema(messages=MESSAGES, lang=str, **COMMON)
NO_END = {"rejected_cut": bool, "step": bool}  # behind which answers no end of turn was written
TRL_PAIR = schema(prompt=MESSAGES, chosen=MESSAGES, rejected=MESSAGES, **COMMON, **NO_END)
SHAREGPT = schema(conversations=pa.list_(TURN), lang=str, **COMMON)
SHAREGPT_PAIR = schema(conversations=pa.list_(TURN), chosen=TURN, rejected=TURN, **COMMON, **NO_END)
SEED = schema(**dict.fromkeys(("id", "lang", "source", "split", "system", "question", "answer", "passages"), str))


def is_pair(row: Row) -> bool:
    """Whether a row is a preference pair."""
    return "chosen" in row


def fitting(record: Row, columns: pa.Schema) -> Row:
    """The record without the columns that its table has no place for."""
    return {name: record[name] for name in columns.names}


def trl(row: Row, passages: list[Row]) -> Row:
    """`messages`, or `prompt`, `chosen` and `rejected`; further columns are left out by TRL's trainers."""
    return row | _no_end(row) | {"passages": passages}


def sharegpt(row: Row, passages: list[Row]) -> Row:
    """`conversations` of from and value; a pair's are its prompt, with `chosen` and `rejected` as one turn each."""
    if not is_pair(row):
        return row | {"conversations": _turns(row["messages"]), "passages": passages}
    sides = {side: _turns(row[side])[0] for side in ("chosen", "rejected")}
    return row | _no_end(row) | {"conversations": _turns(row["prompt"]), "passages": passages} | sides


def misfit(row: Row) -> str:
    """The rule by which a row has no place in a ShareGPT layout, whose readers skip it with a warning; else ''.

    After a system turn, human and gpt must alternate; a conversation ends with gpt, a pair's prompt with human.
    """
    sides = [row[side] for side in ("chosen", "rejected")] if is_pair(row) else []
    messages = row["prompt"] if sides else row["messages"]
    roles = [message["role"] for message in messages]
    if set(roles) - SHAREGPT_ROLES.keys():
        return "unknown_role"
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    wanted = [("user", "assistant")[place % 2] for place in range(len(spoken))]
    if not spoken or spoken != wanted or spoken[-1] != ("user" if sides else "assistant"):
        return "turns_do_not_alternate"
    return "answer_of_several_turns" if any([m["role"] for m in side] != ["assistant"] for side in sides) else ""


def seed(row: Row, passages: list[Row], split: str) -> Row:
    """Flat text: the first question and answer, the system prompt, the passages under their ids and titles."""
    system = next(iter(turns(row, "system")), "")
    known = {"question": question(row), "answer": answer(row), "system": system, "split": split}
    return fitting(row | known | {"passages": as_text(passages)}, SEED)


def _no_end(row: Row) -> Row:
    return {name: bool(row[name]) for name in NO_END} if is_pair(row) else {}


def _turns(messages: list[dict[str, Any]]) -> list[Row]:
    return [{"from": SHAREGPT_ROLES[message["role"]], "value": message["content"]} for message in messages]
