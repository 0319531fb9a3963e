"""The first screen: what was asked, the main result with its interval, one question answered by every stage, the
funnel. All of it is read from manifests and small tables; a run that is half done shows the half it has."""

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kyara_utils.report.site import readable
from kyara_utils.report.site.entries import DPO, FILTERING, MATHS, PAIR_TABLES, PAIRS, SFT, SYNTHESIS, Found, path_of
from kyara_utils.runs import iter_rows, read_csv
from kyara_utils.runs.tables import Row

CORPUS, EVAL = "01_corpus_indexing", "08_eval"
EXAMPLES = 20  # questions with their answers on the first screen, one of them open


def table_of(found: Found, step: str, name: str) -> list[Row]:
    """A step's small CSV table; empty where the step or the table is missing."""
    path = path_of(found, step, name)
    return read_csv(path) if path else []


def asked(found: Found) -> list[tuple[str, str]]:
    """(name, value) facts of the run: what went in, who wrote, who learned, who judged, how long it took."""
    params = {step: done["key"]["params"] for step, done in found.items()}
    metrics = found.get(CORPUS, {}).get("metrics", {})
    facts = [
        ("documents", f"{metrics['documents']:,} in {metrics['chunks']:,} passages" if "documents" in metrics else ""),
        ("teacher", params.get(SYNTHESIS, {}).get("model", "")),
        ("student", Path(str(params.get(SFT, {}).get("base_model", ""))).name),
        ("judges", ", ".join(params.get(PAIRS, {}).get("judges", []))),
        ("training rows", _rows(found, FILTERING, "base", "refined")),
        ("pairs", _rows(found, PAIRS, *PAIR_TABLES)),
        ("time", f"{sum(done['seconds'] for done in found.values()) / 60:,.0f} min in {len(found)} finished steps"),
        ("finished", max(done["finished"] for done in found.values())[:16].replace("T", " ")),
        ("code", ", ".join(dict.fromkeys(str(done["git"]) for done in found.values()))),
    ]
    return [(name, str(value)) for name, value in facts if value]


def _rows(found: Found, step: str, *names: str) -> str:
    outputs = found.get(step, {}).get("outputs", {})
    return ", ".join(f"{outputs[name]['rows']:,} {name.replace('_', ' ')}" for name in names if name in outputs)


def result(found: Found) -> Row:
    """{finding, groups}: the headline metric of every benchmark, a mark with its interval for each model."""
    scores = [row for row in table_of(found, EVAL, "scores") if row["benchmark"] != "pairwise"]
    groups = []
    for benchmark in dict.fromkeys(row["benchmark"] for row in scores):
        mine = [row for row in scores if row["benchmark"] == benchmark]
        rows = [row for row in mine if row["metric"] == mine[0]["metric"]]
        name = f"{benchmark.replace('_', ' ')} ({mine[0]['metric']})"
        groups.append({"name": name, "n": mine[0]["n"], "marks": [_mark(row) for row in rows]})
    return {
        "finding": _finding(found, groups),
        "groups": groups,
        "miniature": not any(r.get("dataset") for r in scores),
    }


def _mark(row: Row) -> Row:
    ends = {name: 100 * readable.number(row[name]) for name in ("value", "low", "high")}
    ends = {name: min(100.0, max(0.0, value)) for name, value in ends.items()}
    known = not math.isnan(ends["low"] + ends["high"])
    text = f"{readable.percent(row['value'], row['n'])}{f' ({readable.interval(row)})' if known else ''}"
    return {"model": row["model"], "text": text, "known": known} | ends


def _finding(found: Found, groups: list[Row]) -> str:
    """What may be said of the models: how many paired differences exclude zero, and what happened to the loss."""
    rows = readable.difference_table(table_of(found, EVAL, "differences"))
    said = [f"{sum(row['apart'] for row in rows)} of {len(rows)} paired differences between stages exclude zero."]
    losses = {row["model"]: row["loss"] for row in table_of(found, SFT, "held_out") if row["split"] == "all"}
    losses |= {row["model"]: row["held_out"] for row in table_of(found, DPO, "rounds")[-1:]}
    steps = " → ".join(
        f"{model} {readable.number(loss):.2f}" for model, loss in losses.items() if loss not in ("", None)
    )
    loss = f"Loss on held-out rows in nats per token: {steps}." if steps else ""
    return " ".join([*(said if groups and rows else []), loss]).strip()


def examples(found: Found) -> list[Row]:
    """Up to `EXAMPLES` questions {prompt, category, answers {model, text}} of step 08, in the set's own order."""
    path = path_of(found, EVAL, "answers")
    asked_of: dict[tuple[str, str], Row] = {}
    for row in iter_rows(path) if path else ():
        key = (row["benchmark"], row["id"])
        if key in asked_of or len(asked_of) < EXAMPLES:
            place = asked_of.setdefault(key, {"prompt": row["prompt"], "category": row["category"], "answers": []})
            place["answers"].append({"model": row["model"], "text": row["text"]})
    return list(asked_of.values())


def funnel(found: Found) -> Row:
    """{stages, idle, rules}: stages that removed a row with rows in and out, the names of those that removed none, and
    what each rule of each step removed, most first."""
    totals: dict[str, list[float]] = {}
    for row in table_of(found, FILTERING, "funnel"):
        total = totals.setdefault(row["stage"], [0, 0])
        total[0] += readable.number(row["rows_in"])
        total[1] += readable.number(row["rows_out"])
    stages = [{"name": name, "rows_in": came, "rows_out": left} for name, (came, left) in totals.items()]
    idle = [stage["name"] for stage in stages[:-1] if stage["rows_in"] == stage["rows_out"]]
    kept = [stage for stage in stages if stage["name"] not in idle]
    most = max((stage["rows_in"] for stage in kept), default=1) or 1
    for stage in kept:
        stage |= {"kept": 100 * stage["rows_out"] / most, "lost": 100 * (stage["rows_in"] - stage["rows_out"]) / most}
    return {"stages": kept, "idle": idle, "rules": rules(found)}


def rules(found: Found, steps: Iterable[str] = (CORPUS, SYNTHESIS, MATHS, FILTERING, SFT, PAIRS, DPO)) -> list[Row]:
    """{step, rule, rows} of every reject of these steps, most first within a step."""
    counted: list[Row] = []
    for step in steps:
        path = path_of(found, step, "rejects")
        counts: Counter[Any] = Counter(row["rule"] for row in iter_rows(path, ["rule"])) if path else Counter()
        counted += [{"step": step, "rule": rule, "rows": rows} for rule, rows in counts.most_common()]
    return counted
