"""One published figure beside the figure recomputed here: what every golden check yields."""

from dataclasses import dataclass
from math import isfinite, isnan, nan

OK, MISMATCH, UNPUBLISHED, NOT_RUN = "ok", "MISMATCH", "no published figure", "not run"


@dataclass(frozen=True)
class Figure:
    """`name` says what and whose; `published` and `recomputed` are in `unit`; NaN in either never matches."""

    name: str  # "zeroeval/gsm gemma-2-2b-it accuracy"
    published: float
    recomputed: float
    tolerance: float
    unit: str = ""
    note: str = ""  # why there is no figure, or what a reader must know about it

    @property
    def difference(self) -> float:
        """Recomputed minus published."""
        return self.recomputed - self.published

    @property
    def matches(self) -> bool:
        """True when the two differ by no more than the tolerance."""
        return not isnan(self.difference) and abs(self.difference) <= self.tolerance

    @property
    def status(self) -> str:
        """`ok`, `MISMATCH`, `no published figure` (only recomputed) or `not run` (a part is not installed)."""
        if self.matches:
            return OK
        if self.note.startswith(NOT_RUN):
            return NOT_RUN
        return UNPUBLISHED if isnan(self.published) and isfinite(self.recomputed) else MISMATCH


def failure(name: str, reason: object) -> Figure:
    """The row of a file that could not be read or scored: a mismatch with its reason."""
    return Figure(name, nan, nan, 0.0, note=" ".join(str(reason).split())[:300])


def not_run(name: str, reason: object) -> Figure:
    """The row of a check that this installation cannot make: neither a match nor a mismatch."""
    return Figure(name, nan, nan, 0.0, note=f"{NOT_RUN}: {reason}")
