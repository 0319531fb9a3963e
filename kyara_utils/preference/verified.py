"""Pairs by exact checks: of several answers of a model to one question, one that is right against one that is wrong.

No judge is asked. As in RLVR and rejection sampling the question is one of our own rows, whose right answer is known
(`verifiers`); where the model never is right, the row's own answer can stand in for it. Of all right and wrong answers
those two are taken whose lengths are nearest, and none where one is much longer: DPO learns length wherever length
tells the sides apart (Park et al. 2024, arXiv 2403.19159).
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from heapq import heappush, heappushpop
from itertools import product

from kyara_utils.curation.rows import key64
from kyara_utils.llm import Client
from kyara_utils.preference.candidates import several_answers
from kyara_utils.preference.preference_rows import STEP, preference
from kyara_utils.preference.verifiers import CHECKS, RIGHT, WRONG, Found, kind_of, verify
from kyara_utils.runs import answer, content_id, question, reject
from kyara_utils.runs.tables import Row

LONGER = 2.0  # a pair is dropped when its longer side has more than this many times the characters of the other,
SLACK = 16  # plus these: a short answer stands against the fixed sentence, of 14 characters
SOURCE = "verified_{}"
Judged = tuple[Row, Found]


def draw_known(rows: Iterable[Row], each: int, seed: int = 0, kinds: Iterable[str] = CHECKS) -> list[Row]:
    """Return up to `each` rows of every kind of check, those of the smallest hashes of seed and id; none for 0.

    Ids are distinct. No more rows are held than are drawn, of a table of any size.
    """
    heaps: dict[str, list[tuple[int, str, Row]]] = {kind: [] for kind in kinds}
    for row in rows if each else ():
        if (kind := kind_of(row)) in heaps:
            push = heappush if len(heaps[kind]) < each else heappushpop
            push(heaps[kind], (-key64((seed, row["id"])), row["id"], row))
    return [row for heap in heaps.values() for _, _, row in sorted(heap, reverse=True)]


def verified_preferences(
    client: Client, rows: Sequence[Row], chunks: Mapping[str, Row], samples: int = 4, own: bool = True,
    max_tokens: int = 160, temperature: float = 0.5, seed: int = 0,
) -> tuple[list[Row], list[Row]]:  # fmt: skip
    """Answer the question of each row `samples` times; return (preference rows, rejects), one or the other for each.

    rows: of `draw_known`; chunks: of `shown_documents`; own: whether the row's own answer, if it passes the check, is
    chosen where no sample is right. The source is `verified_` and the kind; `verdicts` names the check, both findings
    and how many samples were right and wrong. Rejects: no_answer (calls failed or came back empty), all_right,
    all_wrong, no_contrast (some answers are neither), unlike_length (of every right and wrong one). Holds all answers,
    some 2 kB each: good for 100,000 rows.
    """
    columns = several_answers(client, [question(row) for row in rows], samples, max_tokens, temperature, seed)
    kept, rejects = [], []
    for row, answers in zip(rows, zip(*columns, strict=True), strict=True):
        rule, made = _pair(row, answers, chunks, own)
        (rejects if rule else kept).append(reject(STEP, rule, made) if rule else made)
    return kept, rejects


def _pair(row: Row, answers: Sequence[Row], chunks: Mapping[str, Row], own: bool) -> tuple[str, Row]:
    """Return ("", preference) or (rule, what was seen)."""
    usable = list({one["text"]: one for one in answers if one["text"]}.values())
    judged = [(one, verify(row, one["text"], one["finish_reason"] == "length", chunks)) for one in usable]
    right, wrong = ([item for item in judged if item[1].outcome == side] for side in (RIGHT, WRONG))
    sizes = {"samples": len(judged), "right_samples": len(right), "wrong_samples": len(wrong)}
    if wrong and not right and own:
        right = _own(row, chunks)
    best = min(product(right, wrong), key=_ratio, default=None)
    rule = _rule(judged, right, wrong, best)
    if rule:
        seen = [one | {"outcome": found.outcome, "rule": found.rule} for one, found in judged]
        return rule, {"id": content_id(row["id"], prefix="ver_", n=12), "row": row["id"], "source": _source(row),
                      "prompt": question(row), "answers": seen}  # fmt: skip
    return "", _row(row, *best, sizes)


def _rule(judged: list[Judged], right: list[Judged], wrong: list[Judged], best: tuple[Judged, Judged] | None) -> str:
    if not judged:
        return "no_answer"
    if best:
        return "unlike_length" if _unlike(*(len(one["text"]) for one, _ in best)) else ""
    whole = next((side for side in (right, wrong) if len(side) == len(judged)), None)
    return "no_contrast" if whole is None else "all_right" if whole is right else "all_wrong"


def _own(row: Row, chunks: Mapping[str, Row]) -> list[Judged]:
    text = answer(row)
    found = verify(row, text, False, chunks)
    return [({"text": text, "model": "reference", "call_id": ""}, found)] if found.outcome == RIGHT else []


def _ratio(pair: tuple[Judged, Judged]) -> float:
    one, other = (len(item["text"]) + SLACK for item, _ in pair)
    return max(one, other) / min(one, other)


def _unlike(one: int, other: int) -> bool:
    return max(one, other) > LONGER * min(one, other) + SLACK


def _source(row: Row) -> str:
    return SOURCE.format(kind_of(row))


def _row(row: Row, chosen: Judged, rejected: Judged, sizes: Row) -> Row:
    (good, passed), (bad, failed) = chosen, rejected
    note = {"check": kind_of(row), "chosen": passed.rule, "rejected": failed.rule} | sizes
    parents = [row["id"], *row["parents"][:1]]  # with its document, so that held-out pairs are of other documents
    calls = [one["call_id"] for one in (good, bad) if one["call_id"]]
    return preference(
        question(row), good["text"], bad["text"], _source(row), good["model"], bad["model"], note, parents, calls,
        bad.get("finish_reason") == "length",
    )  # fmt: skip


def rule_lines(kept: Sequence[Row], rejects: Sequence[Row]) -> list[str]:
    """Return a line for each source: pairs, and rejects by rule; `rejects` of `verified_preferences`."""
    rules = Counter((json.loads(row["row"])["source"], row["rule"]) for row in rejects)
    pairs = Counter(row["source"] for row in kept)
    lines = []
    for source in sorted({*pairs, *(source for source, _ in rules)}):
        found = {rule: n for (where, rule), n in sorted(rules.items()) if where == source}
        lines.append(f"{source}: {pairs[source]} pairs" + "".join(f", {n} {rule}" for rule, n in found.items()))
    return lines
