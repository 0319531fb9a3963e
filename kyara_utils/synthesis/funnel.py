"""The books of a synthesis: what was asked for, what each stage let pass, and by which rule the rest ended."""

import json
from collections import Counter

from kyara_utils.synthesis.drafts import Row

STAGES = ("question", "answer", "checks")  # at which a draft can end, in order


def funnel_rows(asked: dict[str, int], rejects: list[Row]) -> list[Row]:
    """Return {stage, source, rows_in, rows_out}, stage by stage, for the funnel figure.

    asked: number of drafts begun, by kind. Every reject must name a known kind and stage (ValueError otherwise).
    """
    ended = Counter((body["stage"], body["kind"]) for body in map(_body, rejects))
    if strange := [key for key in ended if key[0] not in STAGES or key[1] not in asked]:
        raise ValueError(f"rejects of unknown stage or kind: {strange}")
    rows, left = [], dict(asked)
    for stage in STAGES:
        for kind in asked:
            before, left[kind] = left[kind], left[kind] - ended[stage, kind]
            rows.append({"stage": stage, "source": kind, "rows_in": before, "rows_out": left[kind]})
    return rows


def rule_rows(rejects: list[Row]) -> list[Row]:
    """Return {stage, source, rule, rows}: what each rule removed, most first."""
    counts = Counter(
        (body["stage"], body["kind"], row["rule"]) for row, body in zip(rejects, map(_body, rejects), strict=True)
    )
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"stage": s, "source": kind, "rule": rule, "rows": count} for (s, kind, rule), count in ordered]


def _body(row: Row) -> Row:
    return json.loads(row["row"])
