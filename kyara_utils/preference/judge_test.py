"""A judge on pairs whose right verdict is known: is it worth believing, and what besides quality does it follow?

Raw agreement overstates a judge by what guessing would reach (some 30 points: arXiv 2606.19544), so kappa stands beside
it and decides. Position, length and own answers are effects on the verdict, from −1 to 1: the share of verdicts that
follow them, the right verdict held fixed (least squares, HC3 intervals after MacKinnon & White 1985).
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from kyara_utils.preference.judge import Verdict
from kyara_utils.preference.judges import PairJudge, Panel
from kyara_utils.preference.labelled_pairs import LabelledPair
from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import Z95, wilson
from kyara_utils.stats.kappa import kappa_interval

SIGN = {"first": 1.0, "A": 1.0, "second": -1.0, "B": -1.0}
SAID = {"first": "first", "second": "second", "tie": "tie", "inconsistent": "tie"}  # any other outcome says nothing


def try_judge(
    judge: PairJudge, tests: list[LabelledPair], bar: float = 0.0, repeats: int = 0
) -> tuple[Row, list[Verdict]]:
    """Ask a judge all test pairs, and `repeats` times more; return (its row of `judge_statistics`, verdicts).

    The row also has judge, mode, bar and `trusted`: the lower end of kappa's 95 % interval lies above the bar.
    """
    pairs = [test.pair for test in tests]
    verdicts = judge.verdicts(pairs)
    again = [judge.verdicts(pairs, number) for number in range(1, repeats + 1)]
    row = {"judge": judge.name, "mode": getattr(judge, "mode", "panel")}
    row |= judge_statistics(tests, verdicts, judge.name) | deviation(verdicts, again)
    return row | {"bar": bar, "trusted": row["kappa_low"] > bar}, verdicts


def try_panel(
    panel: Panel, tests: list[LabelledPair], bar: float = 0.0, repeats: int = 0
) -> tuple[Panel, list[Row], list[Verdict]]:
    """Test every member; return (the panel of those that are believed, a row for each test, all verdicts).

    Where several are believed, the last row is that of their panel, from the same calls.
    """
    rows, verdicts = [], []
    for member in panel.members:
        row, said = try_judge(member, tests, bar, repeats)
        rows, verdicts = [*rows, row], [*verdicts, *said]
    believed = panel.only([row["judge"] for row in rows if row["trusted"]])
    if len(believed.members) > 1:
        rows.append(try_judge(believed, tests, bar)[0])
    return believed, rows, verdicts


def judge_statistics(tests: Sequence[LabelledPair], verdicts: Sequence[Verdict], judge: str = "") -> Row:
    """What verdicts say of their judge; `judge`: its name, by which its own answers are known.

    n; agreement with the labels over all pairs, an unread verdict agreeing with nobody and one that followed the
    position counting as a tie, with kappa; right, as_tie and wrong: counts over the pairs that people decided; ties and
    unscored: shares of the judge's verdicts; consistent: the same verdict in both orders, of the pairs read in both.
    All but counts and n come with _low and _high, their 95 % interval.
    """
    labels = [test.label for test in tests]
    said = [SAID.get(verdict.outcome, "unscored") for verdict in verdicts]
    decided = Counter(
        "right" if a == b else "as_tie" if b == "tie" else "wrong"
        for a, b in zip(labels, said, strict=True) if a != "tie" and b != "unscored"
    )  # fmt: skip
    both = [verdict.forward == verdict.reverse for verdict in verdicts if verdict.forward and verdict.reverse]
    found: Row = {"n": len(tests)} | _share("agreement", [a == b for a, b in zip(labels, said, strict=True)])
    found |= dict(zip(("kappa", "kappa_low", "kappa_high"), kappa_interval(labels, said), strict=True))
    found |= {name: decided[name] for name in ("right", "as_tie", "wrong")}
    found |= _share("ties", [one == "tie" for one in said]) | _share("unscored", [one == "unscored" for one in said])
    return found | _share("consistent", both) | _followed(tests, verdicts, judge)


def _share(name: str, flags: Sequence[bool]) -> Row:
    low, high = wilson(sum(flags), len(flags))
    return {name: sum(flags) / len(flags) if flags else math.nan, f"{name}_low": low, f"{name}_high": high}


def _followed(tests: Sequence[LabelledPair], verdicts: Sequence[Verdict], judge: str) -> Row:
    """Effects of position, of being longer and of being the judge's own, over the pairs read in both orders."""
    read = [(t, v) for t, v in zip(tests, verdicts, strict=True) if v.forward and v.reverse]
    shown = np.array([np.mean(_for_the_first_shown(verdict)) for _, verdict in read])
    verdict = np.array([np.mean([SIGN.get(v.forward, 0.0), SIGN.get(v.reverse, 0.0)]) for _, v in read])
    causes = np.array([_causes(test, judge) for test, _ in read]).reshape(-1, 3)
    varied = [column for column in range(3) if len(read) and causes[:, column].any()]
    found = dict(zip(varied, _effects(verdict, causes[:, varied]), strict=True))
    found[0] = _effects(shown, np.ones((len(read), 1)))[0]  # in the place of the effect of being right
    unknown = (math.nan,) * 3
    return {
        f"{name}{end}": value
        for place, name in enumerate(("position", "length", "own"))
        for end, value in zip(("", "_low", "_high"), found.get(place, unknown), strict=True)
    }


def _for_the_first_shown(verdict: Verdict) -> tuple[float, float]:
    """Both orders: 1 for the answer shown first, −1 for the other; before a liking for the position was taken out."""
    if verdict.margin_forward is None or verdict.margin_reverse is None:
        return SIGN.get(verdict.forward, 0.0), -SIGN.get(verdict.reverse, 0.0)
    liking = verdict.liking or 0.0
    return float(np.sign(verdict.margin_forward + liking)), float(np.sign(liking - verdict.margin_reverse))


def _causes(test: LabelledPair, judge: str) -> tuple[float, float, float]:
    """What may decide for the first answer (1) or the second (−1): being right, longer, the judge's own."""
    longer = np.sign(len(test.pair.first) - len(test.pair.second))
    own = (test.pair.models[0] == judge) - (test.pair.models[1] == judge) if judge else 0
    return SIGN.get(test.label, 0.0), float(longer), float(own)


def _effects(values: np.ndarray, causes: np.ndarray) -> list[tuple[float, float, float]]:
    """Coefficients of a least-squares fit without intercept, with HC3 intervals; NaN where the pairs can't tell."""
    n, k = causes.shape
    if n <= k or np.linalg.matrix_rank(causes) < k:
        return [(math.nan,) * 3] * k
    inverse = np.linalg.inv(causes.T @ causes)
    effects = inverse @ causes.T @ values
    leverage = np.einsum("ij,jk,ik->i", causes, inverse, causes)
    rest = (values - causes @ effects) / np.maximum(1 - leverage, 1e-9)
    spread = Z95 * np.sqrt(np.diag(inverse @ (causes.T * rest**2) @ causes @ inverse))
    return [(float(e), float(e - s), float(e + s)) for e, s in zip(effects, spread, strict=True)]


def deviation(verdicts: Sequence[Verdict], again: Sequence[Sequence[Verdict]]) -> Row:
    """Share of single verdicts that changed when the very same pair was asked again; NaN without a repeat."""
    orders = ("forward", "reverse")
    changed = [getattr(one, order) != getattr(two, order) for repeat in again
               for one, two in zip(verdicts, repeat, strict=True) for order in orders]  # fmt: skip
    return _share("deviation", changed)


def report_lines(row: Row) -> list[str]:
    """A judge's row for people; the last line says whether it is believed."""
    lines = [f"{row['judge']}: {row['n']} pairs with a known verdict"]
    for name, words in SHOWN.items():
        if not math.isnan(row[name]):
            lines.append(f"  {words:52} {row[name]:6.2f}   ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})")
    counts = f"of the pairs with a winner {row['right']} right, {row['as_tie']} as a tie, {row['wrong']} wrong"
    return [*lines, f"  {counts}", f"  {trust_line(row)}"]


SHOWN = {
    "kappa": "agreement beyond chance (Cohen's kappa)", "agreement": "agreement with the labels, share",
    "consistent": "same verdict in both orders, share", "ties": "ties, share", "unscored": "unread, share",
    "position": "effect of being shown first (−1 to 1)", "length": "effect of being longer (−1 to 1)",
    "own": "effect of being the judge's own (−1 to 1)", "deviation": "verdicts that change when asked again, share",
}  # fmt: skip


def trust_line(row: Row) -> str:
    """One line: believed or refused, and by which figure."""
    verdict = "believed" if row["trusted"] else "REFUSED"
    figure = f"kappa {row['kappa']:.2f}, its lower end {row['kappa_low']:.2f} is"
    return f"{verdict}: {figure}{'' if row['trusted'] else ' not'} above {row['bar']:g} on {row['n']} pairs"
