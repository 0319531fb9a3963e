"""What the published tables show: which differences exceed their noise, and which averages follow from their parts.

A table printed without n or interval invites belief in every gain. Both checks need nothing but the table and the
size of each benchmark.
"""

import math
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import Z95

Key = tuple[str, str, str]
BASELINE = "Gemma-2-2b-it"
FAMILY = "Kyara"  # models whose names begin so are compared with the baseline
RATING_SD = 2.5  # assumed spread of a 1-10 judge score over answers, where no interval was ever published
# Averages that the card prints beside their parts (its own statement for TMMLU+, the benchmark's for AlignBench).
PARTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("tmmlu_plus", "macro"): ("STEM", "humanities", "other", "social sciences"),
    ("alignbench", "reasoning"): ("logic", "math"),
    ("alignbench", "language"): (
        "fundamental", "chinese_understanding", "open_ended", "writing", "role_play", "professional",
    ),
    ("alignbench", "overall"): ("reasoning", "language"),
}  # fmt: skip


def _by_key(published: list[Row]) -> dict[Key, Row]:
    return {(row["benchmark"], row["metric"], row["model"]): row for row in published}


def _error(found: dict[Key, Row], benchmark: str, metric: str, model: str) -> float:
    row, parts = found[benchmark, metric, model], PARTS.get((benchmark, metric), ())
    if parts and all((benchmark, part, model) in found for part in parts):
        return math.hypot(*(_error(found, benchmark, part, model) for part in parts)) / len(parts)
    if row["se"]:
        return float(row["se"])
    if not row["n"]:
        return math.nan
    if row["unit"] == "1-10":
        return RATING_SD / math.sqrt(int(row["n"]))
    share = float(row["value"]) / 100
    return 100 * math.sqrt(share * (1 - share) / int(row["n"]))


def check_differences(published: list[Row], baseline: str = BASELINE) -> list[Row]:
    """Compare each Kyara score with the baseline's, as two independent runs, in the order of the table.

    Rows {table, label, benchmark, metric, model_a, model_b, unit, n, difference, se, low, high, z, verdict, basis};
    `low` and `high` are the 95 % interval of the difference, `verdict` is "exceeds noise", "within noise" or
    "unknown". Unpaired, because the card gives no answers: the same items answered by both would narrow the error.
    """
    found, rows = _by_key(published), []
    for (benchmark, metric, model), row in found.items():
        other = found.get((benchmark, metric, baseline))
        if other is None or not model.startswith(FAMILY):
            continue
        se = math.hypot(*(_error(found, benchmark, metric, name) for name in (model, baseline)))
        difference = float(Decimal(row["value"]) - Decimal(other["value"]))
        rows.append(
            {
                **{name: row[name] for name in ("table", "label", "benchmark", "metric")},
                "model_a": model, "model_b": baseline, "unit": row["unit"], "n": row["n"], "difference": difference,
                "se": se, "low": difference - Z95 * se, "high": difference + Z95 * se, "z": difference / se,
                "verdict": _verdict(difference, se), "basis": row["basis"],
            }
        )  # fmt: skip
    return rows


def _verdict(difference: float, se: float) -> str:
    if math.isnan(se):
        return "unknown"
    return "exceeds noise" if abs(difference) > Z95 * se else "within noise"


def check_sums(published: list[Row]) -> list[Row]:
    """Recompute every printed average from its parts, in the order of the table.

    Rows {label, model, printed, recomputed, difference, verdict}; `recomputed` starts from the smallest printed parts,
    so one wrong average cannot hide another. `verdict`: "rounded" or "truncated" to the printed digits, "within
    rounding" (parts were rounded too: at most one unit of the last digit), or "slip".
    """
    found, rows = _by_key(published), []
    for (benchmark, metric, model), row in found.items():
        parts = PARTS.get((benchmark, metric), ())
        if not parts or not all((benchmark, part, model) in found for part in parts):
            continue
        printed, recomputed = Decimal(row["value"]), _recomputed(found, benchmark, metric, model)
        rows.append(
            {
                "label": row["label"], "model": model, "printed": row["value"],
                "recomputed": float(round(recomputed, 4)), "difference": float(round(printed - recomputed, 4)),
                "verdict": _rounding(printed, recomputed),
            }
        )  # fmt: skip
    return rows


def _recomputed(found: dict[Key, Row], benchmark: str, metric: str, model: str) -> Decimal:
    parts = PARTS.get((benchmark, metric))
    if not parts:
        return Decimal(found[benchmark, metric, model]["value"])
    return sum(_recomputed(found, benchmark, part, model) for part in parts) / len(parts)


def _rounding(printed: Decimal, recomputed: Decimal) -> str:
    unit = Decimal(1).scaleb(printed.as_tuple().exponent)
    if printed == recomputed.quantize(unit, ROUND_HALF_UP):
        return "rounded"
    if printed == recomputed.quantize(unit, ROUND_DOWN):
        return "truncated"
    return "within rounding" if abs(printed - recomputed) <= unit else "slip"


def summary(differences: list[Row], sums: list[Row]) -> str:
    """Say both findings in one line: how many whole benchmarks gained beyond noise, and which averages are slips."""
    parts = {(benchmark, part) for (benchmark, _), names in PARTS.items() for part in names}
    whole = [
        row for row in differences if (row["benchmark"], row["metric"]) not in parts and row["verdict"] != "unknown"
    ]
    beyond = sum(row["verdict"] == "exceeds noise" for row in whole)
    slips = [row for row in sums if row["verdict"] == "slip"]
    text = f"{beyond} of {len(whole)} published differences exceed their noise; "
    text += f"{len(sums) - len(slips)} of {len(sums)} averages follow from their parts"
    return text + "".join(
        f"; {row['label']} of {row['model']} is printed {row['printed']} but its parts give {row['recomputed']:g}"
        for row in slips
    )
