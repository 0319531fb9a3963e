"""The claims check: published differences against their noise, published averages against their parts."""

import math
import re
from pathlib import Path

import pytest

from kyara_utils.evaluation.card import load_published
from kyara_utils.evaluation.claims import PARTS, check_differences, check_sums, summary

CARD_TEXT = Path(__file__).parents[1].parent / "shared" / "kyara_model_card.txt"
PUBLISHED = load_published()


def row(benchmark, metric, model, value, n="100", unit="%", se=""):
    """One row of the table of published scores."""
    return {
        "table": "general", "benchmark": benchmark, "metric": metric, "label": f"{benchmark} {metric}", "model": model,
        "value": value, "unit": unit, "n": n, "se": se, "basis": "b", "source": "s",
    }  # fmt: skip


def difference_of(label, model="Kyara-2b-it"):
    """The checked difference with this label."""
    return next(r for r in check_differences(PUBLISHED) if (r["label"], r["model_a"]) == (label, model))


def averages():
    """Checked averages by (label, model)."""
    return {(r["label"], r["model"]): r for r in check_sums(PUBLISHED)}


@pytest.mark.parametrize(
    ("label", "points", "z", "verdict"),
    [
        ("MMLU-Redux", 3.50, 2.6, "exceeds noise"),
        ("GSM8K", 2.58, 1.3, "within noise"),
        ("MATH-L5", 4.58, 3.5, "exceeds noise"),
        ("CRUX", 1.25, 0.6, "within noise"),
        ("ZebraLogic", 1.00, 1.1, "within noise"),
        ("AlpacaEval-LC", 2.98, 1.5, "within noise"),
        ("MT-Bench", 0.11, 0.3, "within noise"),
    ],
)
def test_published_gains_stand_beside_their_noise(label, points, z, verdict):
    """Half the card's gains are smaller than the error of two independent runs; a bare table hides which."""
    found = difference_of(label)
    assert found["difference"] == pytest.approx(points)
    assert found["z"] == pytest.approx(z, abs=0.05) and found["verdict"] == verdict
    assert (found["low"] > 0) == (verdict == "exceeds noise")


def test_tmmlu_plus_gets_its_error_from_its_groups():
    """The mean of four unequal groups is less certain than one pool of 20,118 items would be (z 9.1, not 10.8)."""
    found = difference_of("TMMLU+")
    pooled = math.hypot(*(math.sqrt(p * (1 - p) / 20118) for p in (0.4198, 0.3673)))
    assert found["difference"] == pytest.approx(5.25) and found["z"] == pytest.approx(9.1, abs=0.05)
    assert 5.25 / (100 * pooled) == pytest.approx(10.8, abs=0.05)


def test_an_undefined_benchmark_has_unknown_noise():
    """Without n nothing can be said; z = 0 or infinity would say something."""
    found = difference_of("Chinese-Reason-Bench")
    assert found["verdict"] == "unknown" and math.isnan(found["z"])


def test_the_cards_averages_follow_from_their_parts():
    """TMMLU+ 41.98 and 36.73, AlignBench overall 6.44, 5.90 and 5.64; Kyara's columns are cut, Gemma's rounded."""
    found = averages()
    expected = {
        ("TMMLU+", "Kyara-2b-it"): ("41.98", 41.985, "truncated"),
        ("TMMLU+", "Gemma-2-2b-it"): ("36.73", 36.7325, "rounded"),
        ("AlignBench: Reasoning average", "Kyara-2b-it-CHT"): ("5.62", 5.625, "truncated"),
        ("AlignBench: Chinese language average", "Kyara-2b-it-CHT"): ("7.26", 7.2667, "truncated"),
        ("AlignBench: Overall", "Kyara-2b-it-CHT"): ("6.44", 6.4458, "truncated"),
        ("AlignBench: Overall", "Kyara-2b-it-CHS"): ("5.90", 5.9, "rounded"),
        ("AlignBench: Overall", "Gemma-2-2b-it"): ("5.64", 5.6408, "rounded"),
    }
    for key, (printed, recomputed, verdict) in expected.items():
        assert (found[key]["printed"], found[key]["verdict"]) == (printed, verdict)
        assert found[key]["recomputed"] == pytest.approx(recomputed, abs=1e-4)


def test_the_one_slip_of_the_card_is_found():
    """GPT-3.5's reasoning is printed 5.00 but its parts give 5.085, which its own overall 5.91 used."""
    slips = [r for r in check_sums(PUBLISHED) if r["verdict"] == "slip"]
    assert [(r["label"], r["model"], r["printed"]) for r in slips] == [
        ("AlignBench: Reasoning average", "ChatGPT-3.5-0613", "5.00")
    ]
    assert slips[0]["recomputed"] == pytest.approx(5.085)
    assert averages()["AlignBench: Overall", "ChatGPT-3.5-0613"]["verdict"] == "rounded"


@pytest.mark.parametrize(
    ("printed", "verdict"),
    [
        ("5.63", "rounded"),
        ("5.62", "truncated"),
        ("5.6", "rounded"),
        ("5.635", "slip"),
        ("5.64", "slip"),
        ("6", "rounded"),
    ],
)
def test_rounding_is_told_from_a_slip(printed, verdict):
    """A tolerance of a tenth would pass the slip; none at all would call every cut digit one."""
    parts = [row("alignbench", m, "m", v) for m, v in (("logic", "5.26"), ("math", "5.99"))]
    (found,) = check_sums([*parts, row("alignbench", "reasoning", "m", printed)])
    assert found["verdict"] == verdict


def test_rounded_parts_excuse_one_unit_of_the_last_digit():
    """Parts were rounded before they were printed: their true mean may lie half a unit beside the recomputed one."""
    parts = [row("alignbench", m, "m", v) for m, v in (("logic", "5.26"), ("math", "5.98"))]
    assert check_sums([*parts, row("alignbench", "reasoning", "m", "5.63")])[0]["verdict"] == "within rounding"
    assert check_sums([*parts, row("alignbench", "reasoning", "m", "5.64")])[0]["verdict"] == "slip"


def test_parts_that_are_missing_leave_the_average_unchecked():
    """An average over the parts that happen to be there would be a slip of ours."""
    assert check_sums([row("alignbench", "reasoning", "m", "5"), row("alignbench", "logic", "m", "5")]) == []


def test_errors_come_from_the_best_source_there_is():
    """A known error must win over the binomial one, and a rating is no proportion."""
    models = ("Kyara-y", "Gemma-2-2b-it")
    table = [row("a", "x", model, "50") for model in models]
    table += [row("b", "x", model, "50", se="1.4") for model in models]
    table += [row("c", "x", model, "6", unit="1-10") for model in models]
    errors = {found["benchmark"]: found["se"] / 2**0.5 for found in check_differences(table)}
    assert errors == {"a": pytest.approx(5.0), "b": pytest.approx(1.4), "c": pytest.approx(0.25)}


def test_only_kyara_is_compared_and_only_where_the_baseline_stands():
    """A difference to a model that was not run is none."""
    table = [row("a", "x", "Kyara-y", "50"), row("a", "x", "Gemma-2-2b-it", "40"), row("b", "x", "Kyara-y", "50")]
    table.append(row("a", "x", "ChatGPT", "10"))
    assert [(r["benchmark"], r["model_a"]) for r in check_differences(table)] == [("a", "Kyara-y")]


def test_the_summary_counts_whole_benchmarks():
    """Thirty folds of two benchmarks would outvote the others."""
    text = summary(check_differences(PUBLISHED), check_sums(PUBLISHED))
    assert text.startswith("7 of 13 published differences exceed their noise; 13 of 14 averages follow")
    assert "printed 5.00 but its parts give 5.085" in text


def test_every_part_of_an_average_is_published():
    """A renamed metric would silently drop the check."""
    known = {(r["benchmark"], r["metric"]) for r in PUBLISHED}
    assert all((benchmark, part) in known for (benchmark, _), parts in PARTS.items() for part in parts)


def test_the_table_holds_the_cards_figures():
    """A figure copied wrongly would be checked, compared and believed."""
    if not CARD_TEXT.exists():
        pytest.skip(f"{CARD_TEXT} is not there")
    text = re.sub(r"\s+", " ", CARD_TEXT.read_text(encoding="utf-8").replace("*", ""))
    lines = {}
    for r in PUBLISHED:
        name = r["label"].split(": ")[-1]
        lines.setdefault((r["table"], name), []).append(r["value"])
    for (table, name), values in lines.items():
        if table == "open_llm":
            assert f"value: {values[0]}" in text, name
        else:
            cells = r"\s*\|\s*".join(re.escape(value) for value in values)
            assert re.search(r"\|\s*" + cells + r"\s*\|", text), (name, values)
