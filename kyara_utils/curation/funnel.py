"""The account of the filters: how many rows of each source went in, came out, and fell to which rule.

A filter that loses rows without saying so looks exactly like a strict one. Here it fails the check.
"""

import json
from collections import Counter, defaultdict

from kyara_utils.curation.rows import Row


class Funnel:
    """One entry for each stage and source; `rows()` and `rules()` are the tables behind the figure."""

    def __init__(self) -> None:
        self.entries: list[Row] = []
        self.rejected: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def add(self, stage: str, before: list[Row], kept: list[Row], rejects: list[Row]) -> None:
        """Count one filter's rows by `source`; call it once a stage, in order."""
        rows_in, rows_out = (Counter(row["source"] for row in rows) for rows in (before, kept))
        rejected = Counter((json.loads(r["row"])["source"], r["rule"]) for r in rejects)
        for (source, rule), count in rejected.items():
            self.rejected[stage, source][rule] += count
        for source in sorted(rows_in.keys() | rows_out.keys() | {source for source, _ in rejected}):
            counts = {"rows_in": rows_in[source], "rows_out": rows_out[source]}
            self.entries.append({"stage": stage, "source": source, **counts})

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
        """Raise AssertionError unless rows in = rows out + rejects and stages join without a gap."""
        after: dict[str, int] = {}
        for entry in self.entries:
            stage, source, rows_in, rows_out = entry.values()
            rejected = sum(self.rejected[stage, source].values())
            if rows_in != rows_out + rejected:
                raise AssertionError(f"{stage}/{source}: {rows_in} in, {rows_out} out, {rejected} rejected")
            if after.get(source, rows_in) != rows_in:
                raise AssertionError(f"{stage}/{source}: {rows_in} in, {after[source]} left the stage before")
            after[source] = rows_out
