"""What came of a mixture of preference sources, as numbers for the manifest and as lines for people."""

from dataclasses import dataclass

from kyara_utils.runs.funnel import Funnel
from kyara_utils.runs.tables import Row

STAGES = {  # the rules by which each stage rejects; all others are rules of reading
    "leaks": {"contamination"}, "repeats": {"duplicate_pair", "near_duplicate", "opposite_pair"}, "draw": {"not_drawn"},
}  # fmt: skip


@dataclass(frozen=True)
class Mixed:
    """What came of a mixture: rows read, written and rejected, the account by stage and source, lengths by source."""

    incoming: int
    out: int
    held_out: int
    rejects: int
    funnel: Funnel
    lengths: list[Row]  # see `side_lengths`

    def check(self) -> None:
        """Raise AssertionError unless every row that came in is written or rejected, stage by stage and in all."""
        self.funnel.check()
        if self.incoming != self.out + self.held_out + self.rejects:
            raise AssertionError(
                f"{self.incoming} pairs came in, {self.out} + {self.held_out} + {self.rejects} went out"
            )

    def lines(self) -> list[str]:
        """Return the way of each source through the stages, a line each, and what each rule rejected."""
        way: dict[str, list[int]] = {}
        for entry in self.funnel.rows():
            way.setdefault(entry["source"], [entry["rows_in"]]).append(entry["rows_out"])
        lines = [f"{source:12} {' → '.join(f'{n:,}' for n in counts)}" for source, counts in way.items()]
        rules = (f"{row['source']:12} {row['rule']} {row['rows']:,}" for row in self.funnel.rules())
        return [f"{'source':12} in → {' → '.join(('read', *STAGES))}", *lines, *rules]

    def length_lines(self) -> list[str]:
        """Return the lengths of each source, a line each, with its warning."""
        return [
            f"{row['source']:12} {row['pairs']:,} pairs: chosen {row['chosen']:,.0f}, rejected {row['rejected']:,.0f} "
            f"characters; the longer one is chosen in {row['chosen_longer']:.0%}. {row['warning']}".rstrip()
            for row in self.lengths
        ]
