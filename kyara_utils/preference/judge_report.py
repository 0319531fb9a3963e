"""What a judge did: how often it survived the swap, which position it liked, whose answers it preferred."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from kyara_utils.preference.judge import Pair, Verdict
from kyara_utils.runs.tables import Row
from kyara_utils.stats.corrected_rate import corrected_win_rate

RESULTS = {
    "first": ("wins", "losses"),
    "second": ("losses", "wins"),
    "tie": ("ties",) * 2,
    "inconsistent": ("ties",) * 2,
}


def judge_rows(pairs: list[tuple[Pair, Row, Row]], verdicts: list[Verdict], source: str = "rlaif") -> list[Row]:
    """One flat row per judged pair, for `judge.csv`; lengths in characters, of the forward order where undecided."""
    rows = []
    for (pair, _, _), verdict in zip(pairs, verdicts, strict=True):
        chosen, rejected = (pair.second, pair.first) if verdict.outcome == "second" else (pair.first, pair.second)
        rows.append(
            {
                "source": source,
                "margin_forward": verdict.margin_forward,
                "margin_reverse": verdict.margin_reverse,
                "verdict_forward": verdict.forward,
                "verdict_reverse": verdict.reverse,
                "outcome": "chosen" if verdict.outcome in ("first", "second") else verdict.outcome,
                "chosen_length": len(chosen),
                "rejected_length": len(rejected),
            }
        )
    return rows


def pair_lines(rows: list[Row], width: int = 80) -> list[str]:
    """Return preferences for people, three lines each: prompt, chosen (+), rejected (−), and chances to win."""
    lines = []
    for row in rows:
        lines.append(row["prompt"][-1]["content"][: 3 * width])
        for mark, side in (("+", "chosen"), ("−", "rejected")):
            chance = "" if row[f"{side}_win"] is None else f" {row[f'{side}_win']:.2f}"
            lines.append(f"  {mark} {row[f'{side}_model']}{chance}: {row[side][-1]['content'][:width]!r}")
    return lines


def model_wins(pairs: Sequence[Pair], verdicts: Sequence[Verdict], tested: Sequence[Row], judge: str) -> list[Row]:
    """Win rate (ties one half) of each model over its pairs: {model, wins, ties, losses, raw, corrected, low, high}.

    tested: rows of `try_panel`; that of `judge`, who gave the verdicts, corrects them (see `corrected_win_rate`).
    Best first, by the raw rate.
    """
    found: dict[str, Counter] = defaultdict(Counter)
    for pair, verdict in zip(pairs, verdicts, strict=True):
        for model, result in zip(pair.models, RESULTS.get(verdict.outcome, ()), strict=False):
            found[model][result] += 1
    trust = trust_of(tested, judge)
    rows = [{"model": model} | corrected(counts, trust) for model, counts in found.items()]
    return sorted(rows, key=lambda row: (-row["raw"], row["model"]))


def trust_of(tested: Sequence[Row], judge: str, mode: str = "") -> tuple[int, int, int]:
    """How many decided test pairs a judge told (right, as a tie, wrong); zeros for one that was not tested (so)."""
    rows = [row for row in tested if row["judge"] == judge and mode in ("", row["mode"])]
    return tuple(int(rows[-1][name]) for name in ("right", "as_tie", "wrong")) if rows else (0, 0, 0)


def corrected(counts: Row, trust: tuple[int, int, int]) -> Row:
    """Counts {wins, ties, losses} with their raw win rate and the corrected one with its interval."""
    judged = tuple(counts[name] for name in ("wins", "ties", "losses"))
    value, low, high = corrected_win_rate(judged, trust)
    row = dict(zip(("wins", "ties", "losses"), judged, strict=True))
    raw = (judged[0] + judged[1] / 2) / sum(judged) if sum(judged) else math.nan
    return row | {"raw": raw, "corrected": value, "low": low, "high": high}


def judge_summary(verdicts: list[Verdict]) -> dict[str, float]:
    """Shares over all pairs: consistent, inconsistent, tie, unscored; and `first_shown`, the position bias.

    `first_shown` is the share of single judgements for the answer shown first: 0.5 means no liking for a position.
    """
    n = len(verdicts) or 1
    shares = {
        name: round(sum(verdict.outcome in outcomes for verdict in verdicts) / n, 4)
        for name, outcomes in {
            "consistent": ("first", "second"), "inconsistent": ("inconsistent",),
            "tie": ("tie",), "unscored": ("unscored",),
        }.items()
    }  # fmt: skip
    shown_first = [verdict.forward == "A" for verdict in verdicts if verdict.forward in ("A", "B")]
    shown_first += [verdict.reverse == "B" for verdict in verdicts if verdict.reverse in ("A", "B")]
    shares["first_shown"] = round(sum(shown_first) / len(shown_first), 4) if shown_first else 0.0
    return shares
