"""Sources of preferences become one table: nothing lost, nothing twice, nothing of a benchmark, sizes as asked."""

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from kyara_utils.curation.decontamination import BenchmarkNgrams
from kyara_utils.preference.mixing import mix_preferences
from kyara_utils.preference.open_preferences import read_open_preferences
from kyara_utils.preference.preference_rows import preference
from kyara_utils.preference.shares import side_lengths, sizes
from kyara_utils.runs import KyaraError, read_rows, reject

TRUTH = Path(__file__).parents[1].parent / "shared" / "ground_truth" / "judge_pairs" / "autoj_pairwise.jsonl.gz"
LEAK = "下列哪一個城市是日治時期臺灣總督府的所在地而且至今仍是政治中心"
NGRAMS = BenchmarkNgrams([("tw-1", LEAK)])
RNG = random.Random(5)


def words(count: int, draw: random.Random = RNG) -> str:
    return "".join(chr(draw.randrange(0x4E00, 0x9000)) for _ in range(count))


def pair(prompt: str, chosen: str, rejected: str, source: str = "rlaif", parents: tuple = ()) -> dict:
    return preference(prompt, chosen, rejected, source, "a", "b", {}, list(parents), [])


def mixed(rows: list, folder: Path, **options) -> tuple:
    """(result, ids written, ids held out, {rule: rejects}) with the account checked."""
    result = mix_preferences([(row, None) for row in rows], folder, NGRAMS, **options)
    result.check()
    out, held, rejects = (read_rows(folder / f"{name}.parquet") for name in ("preferences", "held_out", "rejects"))
    assert (len(out), len(held), len(rejects)) == (result.out, result.held_out, result.rejects)
    return result, [row["id"] for row in out], [row["id"] for row in held], Counter(row["rule"] for row in rejects)


def test_repeats_and_leaks_are_removed_across_sources(tmp_path):
    """The first source keeps its pair; what a later one repeats, exactly, nearly or the other way, is a reject."""
    ask, good, bad = words(40) + "？", words(90), words(90)
    first = pair(ask, good, bad)
    near = pair(ask.replace("？", "?"), good[:-2] + "山水", bad, "set")
    rows = [
        first, near, pair(ask, good, bad, "set"), pair(ask, bad, good, "set"),
        pair(ask, good, words(90), "set"), pair(words(40), good, bad, "set"),
        pair(f"請問{LEAK}？", words(30), words(30), "set"), pair(words(20), words(9), f"是{LEAK}。", "set"),
    ]  # fmt: skip
    result, out, _, rules = mixed(rows, tmp_path)
    assert out == [rows[at]["id"] for at in (0, 4, 5)]
    assert rules == {"near_duplicate": 1, "duplicate_pair": 1, "opposite_pair": 1, "contamination": 2}
    details = {row["rule"]: row["detail"] for row in read_rows(tmp_path / "rejects.parquet")}
    assert details["near_duplicate"] == details["opposite_pair"] == f"witness={first['id']}"
    assert details["contamination"].startswith("item=tw-1 span=")
    last = [entry for entry in result.funnel.rows() if entry["stage"] == "draw"]
    assert [(entry["source"], entry["rows_out"]) for entry in last] == [("rlaif", 1), ("set", 2)]


def test_many_pairs_of_one_prompt_are_no_repeats(tmp_path):
    """Four answers make six pairs with one prompt, and each answer stands in three of them."""
    ask, answers = words(300), [words(40) for _ in range(4)]
    rows = [pair(ask, answers[one], answers[two]) for one in range(4) for two in range(one + 1, 4)]
    assert len(mixed(rows, tmp_path)[1]) == 6


def test_numbers_and_steps_keep_pairs_apart(tmp_path):
    """3 + 4 and 3 + 5 are two exercises; two steps of one solution are two pairs, however alike their words."""
    tail = words(60)
    rows = [pair(f"{tail}3+{n}是多少？", f"{tail}答案是{3 + n}。", f"{tail}答案是{4 + n}。", "math") for n in range(3)]
    for number, begun in enumerate(("Step 1: a.\nStep 2:", "Step 1: a.\nStep 2: b.\nStep 3:")):
        row = pair("一題", f"所以{tail}", f"因此{words(60)}", "math") | {"id": f"pref_step{number}", "step": True}
        row["prompt"] = [*row["prompt"], {"role": "assistant", "content": begun}]
        rows.append(row)
    assert len(mixed(rows, tmp_path)[1]) == 5


def test_all_planted_repeats_are_found_in_a_stream(tmp_path):
    """Edited copies batches apart; and of pairs that are none, not one is lost."""
    draw = random.Random(1)
    own = [pair(words(50, draw), words(120, draw), words(120, draw), "a") for _ in range(3000)]
    copies = []
    for row in draw.sample(own, 300):
        ask, good, bad = (row[part][0]["content"] for part in ("prompt", "chosen", "rejected"))
        copies.append(pair(ask[:-1] + "山", good[:40] + "水" + good[41:], bad, "b"))
    _, out, _, rules = mixed(own + copies, tmp_path)
    assert len(out) == 3000 and rules == {"near_duplicate": 300}


def test_rows_that_could_not_be_read_are_counted_with_their_source(tmp_path):
    """What other parts of the step rejected comes first and is no row of the mixture."""
    bad = reject("06_dpo_pair_judging", "same_answers", {"id": "x", "source": "set", "item": {}}, "f:1: same")
    earlier = reject("06_dpo_pair_judging", "tie", {"id": "y"})
    reads = [({}, bad), (pair(words(9), "甲", "乙", "set"), None), ({}, bad)]
    result = mix_preferences(reads, tmp_path, NGRAMS, rejects=[earlier])
    assert (result.incoming, result.out, result.rejects) == (3, 1, 2)
    assert [row["rule"] for row in read_rows(tmp_path / "rejects.parquet")] == ["tie", "same_answers", "same_answers"]
    assert result.funnel.rules() == [{"stage": "read", "source": "set", "rule": "same_answers", "rows": 2}]


def test_sizes_are_drawn_by_seed_and_not_by_order(tmp_path):
    """A size is a limit, a share is of the whole; the same rows are drawn in whatever order they come."""
    draw = random.Random(2)
    rows = {name: [pair(words(20, draw), words(9, draw), words(9, draw), name) for _ in range(100)] for name in "abc"}
    everything = [row for part in rows.values() for row in part]
    mixture = {"a": 30, "b": "20%"}
    _, out, _, rules = mixed(everything, tmp_path, mixture=mixture, seed=3)
    counts = Counter(row["source"] for row in read_rows(tmp_path / "preferences.parquet"))
    assert counts == {"a": 30, "b": 32, "c": 100} and rules == {"not_drawn": 138}
    draw.shuffle(everything)
    assert set(mixed(everything, tmp_path, mixture=mixture, seed=3)[1]) == set(out)
    assert set(mixed(everything, tmp_path, mixture=mixture, seed=4)[1]) != set(out)


def test_a_source_of_the_step_itself_may_give_no_pair(tmp_path):
    rows = [pair(words(20), words(9), words(9), "verified_short")]
    assert len(mixed(rows, tmp_path, mixture={"spin": 5, "verified_cited": 5})[1]) == 1


@pytest.mark.parametrize(
    ("mixture", "expected"),
    [
        ({}, {"a": 90, "b": 60, "c": 10}),
        ({"a": 5, "b": 99}, {"a": 5, "b": 60, "c": 10}),
        ({"a": 0, "b": "50%"}, {"a": 0, "b": 10, "c": 10}),
        ({"c": "50%"}, {"a": 90, "b": 60, "c": 10}),
        ({"a": "60%", "b": "30%", "c": "10%"}, {"a": 60, "b": 30, "c": 10}),
        ({"a": "50%", "b": "50%", "c": 0}, {"a": 60, "b": 60, "c": 0}),
        ({"a": "20%", "b": "20%", "c": 0}, {"a": 60, "b": 60, "c": 0}),
    ],
)
def test_sizes_by_hand(mixture, expected):
    """Rows limit, shares are of all that is taken, and the source that runs out first decides where all have one."""
    assert sizes({"a": 90, "b": 60, "c": 10}, mixture) == expected


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ({"d": 3}, "no source 'd'; this run has a, b"),
        ({"a": -1}, "no number of rows"),
        ({"a": 0.5}, 'a share such as "20%"'),
        ({"a": "half"}, "is no share"),
        ({"a": "120%"}, "is no share"),
        ({"a": "100%"}, "leave nothing for the other sources"),
    ],
)
def test_a_mixture_that_cannot_be_is_one_line(mixture, message):
    """Said before anything is drawn, with the mend."""
    with pytest.raises(KyaraError, match=message):
        sizes({"a": 9, "b": 9}, mixture)


def test_held_out_prompts_and_what_is_like_them_are_not_trained_on(tmp_path):
    """A held-out pair whose prompt, parent or near twin of a prompt is in training measures memory."""
    draw, rows = random.Random(4), []
    for number in range(60):
        ask = words(40, draw)
        for twin in (ask, ask[:-1] + "山", words(30, draw)):
            rows.append(pair(twin, words(20, draw), words(20, draw), "a", [f"conv_{number}"] if twin != ask else []))
    _, out, held, _ = mixed(rows, tmp_path, held_out_share=0.2, seed=1)
    assert len(out) + len(held) == 180 and 36 <= len(held) <= 39
    trio = {row["id"]: at // 3 for at, row in enumerate(rows)}
    assert not {trio[one] for one in out} & {trio[one] for one in held}


def test_a_source_that_length_alone_tells_apart_is_warned_of():
    """Counted by hand: 8 of 10 longer may be an even source, 30 of 40 and 9 of 9 are none; ties count half."""
    ten = np.arange(10), np.where(np.arange(10) < 8, -1, 99)
    forty = np.r_[np.full(30, 9), np.full(10, 3)], np.full(40, 5)
    even = np.full(40, 5), np.full(40, 5)
    short = forty[::-1]
    found = side_lengths({"ten": ten, "forty": forty, "even": even, "short": short, "none": (ten[0][:0], ten[1][:0])})
    found += side_lengths({"nine": (np.full(9, 7), np.full(9, 6))})
    assert [row["chosen_longer"] for row in found] == [0.8, 0.75, 0.5, 0.25, 0.5, 1.0]
    assert [row["warning"][:29] for row in found] == [
        "",
        "the chosen answer is the long",
        "",
        "the chosen answer is the shor",
        "",
        "the chosen answer is the long",
    ]
    assert (found[1]["rejected_low"], found[1]["chosen_low"], found[1]["chosen_high"]) == (5.0, 7.5, 9.0)
    assert (found[1]["chosen"], found[1]["rejected"], found[1]["pairs"]) == (9.0, 5.0, 40)


@pytest.mark.skipif(not TRUTH.is_file(), reason="no ../shared/ground_truth")
def test_real_pairs_with_human_labels_pass_as_they_are(tmp_path):
    """700 real pairs in UltraFeedback's layout: none is taken for a repeat; ties, equal and empty answers are found."""
    rows = [json.loads(line) for line in gzip.open(TRUTH)]
    with open(tmp_path / "pairs.jsonl", "w", encoding="utf-8") as out:
        for row in rows:
            one, two = {0: (2.0, 1.0), 1: (1.0, 2.0)}.get(row["label"], (1.0, 1.0))
            best, worst = ("response 1", "response 2") if one >= two else ("response 2", "response 1")
            item = {"instruction": row["prompt"], "chosen_response": row[best], "rejected_response": row[worst]}
            item |= {"chosen_avg_rating": max(one, two), "rejected_avg_rating": min(one, two)}
            out.write(json.dumps(item) + "\n")
    tied = sum(row["label"] not in (0, 1) for row in rows)
    result = mix_preferences(read_open_preferences(["pairs.jsonl"], tmp_path), tmp_path, NGRAMS, held_out_share=0.1)
    rules = Counter(row["rule"] for row in read_rows(tmp_path / "rejects.parquet"))
    assert rules == {"tied_rating": tied - 5, "same_answers": 5, "empty_turn": 1}  # read by eye: all six are right
    assert result.incoming == 700 and result.out + result.held_out == 517 and result.held_out == 52
    assert result.lengths[0]["chosen_longer"] == 0.6905 and "longer one in 69%" in result.lengths[0]["warning"]
