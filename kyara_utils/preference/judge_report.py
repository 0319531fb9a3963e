"""What a judge did: how often it survived the swap, which position it liked, whether it liked length."""

from kyara_utils.preference.judge import Pair, Verdict
from kyara_utils.runs.tables import Row


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
