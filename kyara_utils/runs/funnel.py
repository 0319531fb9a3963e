"""The account of a step's stages: how many rows of each source went in, came out, and were rejected by which rule.

A filter that loses rows without saying so looks exactly like a strict one. Here it fails the check. It stands among the
runs because its subjects are rows and reject rows, which every step exchanges, and it reads no text.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from kyara_utils.runs.tables import Row

Counts = Mapping[str, int]  # source: rows


class Funnel:
    """One entry for each stage and source; `rows()` and `rules()` are the tables behind the figure."""

    def __init__(self) -> None:
        self.entries: list[Row] = []
        self.rejected: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def add(self, stage: str, before: Iterable[Row], kept: Iterable[Row], rejects: Iterable[Row]) -> None:
        """Count one filter's rows by `source`; call it once a stage, in order."""
        rows_in, rows_out = (Counter(row["source"] for row in rows) for rows in (before, kept))
        rejected = Counter((json.loads(r["row"])["source"], r["rule"]) for r in rejects)
        sources = sorted(rows_in.keys() | rows_out.keys() | {source for source, _ in rejected})
        self.count(stage, {source: rows_in[source] for source in sources}, rows_out, rejected)

    def count(self, stage: str, rows_in: Counts, rows_out: Counts, rejected: Mapping[tuple[str, str], int]) -> None:
        """Enter a stage's counts, for the sources of `rows_in` in their order; `rejected` is by (source, rule)."""
        for (source, rule), number in rejected.items():
            self.rejected[stage, source][rule] += number
        for source, number in rows_in.items():
            self.entries.append(
                {"stage": stage, "source": source, "rows_in": number, "rows_out": rows_out.get(source, 0)}
            )

    def rows(self) -> list[Row]:
        """Return {stage, source, rows_in, rows_out} in order, for a CSV."""
        return [dict(entry) for entry in self.entries]

    def rules(self) -> list[Row]:
        """Return {stage, source, rule, rows}: what each rule removed, largest first in a stage and source."""
        return [
            {"stage": stage, "source": source, "rule": rule, "rows": count}
            for (stage, source), counts in self.rejected.items()
            for rule, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]

    def check(self) -> None:
        """Raise AssertionError unless every stage and source has rows in = rows out + rejects, from stage to stage."""
        after: dict[str, int] = {}
        for entry in self.entries:
            stage, source, rows_in, rows_out = entry.values()
            rejected = sum(self.rejected[stage, source].values())
            if rows_in != rows_out + rejected:
                raise AssertionError(f"{stage}/{source}: {rows_in} in, {rows_out} out, {rejected} rejected")
            if after.get(source, rows_in) != rows_in:
                raise AssertionError(f"{stage}/{source}: {rows_in} in, {after[source]} left the stage before")
            after[source] = rows_out


def funnel_of_stages(begun: Counts, stages: Iterable[str], rejects: Iterable[Row]) -> Funnel:
    """The funnel of drafts whose reject rows hold the `stage` at which each ended and its `kind`, by kind.

    begun: drafts begun, by kind. A reject of another stage or kind is a ValueError.
    """
    stages, left, funnel = list(stages), dict(begun), Funnel()
    ended: dict[str, Counter[tuple[str, str]]] = {stage: Counter() for stage in stages}
    for row in rejects:
        body = json.loads(row["row"])
        if body["stage"] not in ended or body["kind"] not in begun:
            raise ValueError(f"rejects of unknown stage or kind: {body['stage']}, {body['kind']}")
        ended[body["stage"]][body["kind"], row["rule"]] += 1
    for stage in stages:
        before = dict(left)
        for (kind, _), number in ended[stage].items():
            left[kind] -= number
        funnel.count(stage, before, left, ended[stage])
    return funnel
