"""The room text: n-gram hashes equal the sets they stand for, and near duplicates are decided by exact similarity."""

import random
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest

import kyara_utils
from kyara_utils.text import near_duplicates
from kyara_utils.text.answer_rules import RULES, Answer, first_broken
from kyara_utils.text.folding import OPERATORS, fold, fold_all, numbers
from kyara_utils.text.growing import Growing
from kyara_utils.text.minhash import BandTable, Sketcher
from kyara_utils.text.ngrams import jaccard, ngram_hashes, ngrams
from kyara_utils.text.normalise import STABLE, nfkc

CORPUS = Path(kyara_utils.__file__).parent / "data" / "corpus"
STRANGE = [
    "",
    "字",
    "abcd",
    "ＡＢＣ，１２３",
    "臺灣\n台灣",
    "𠮷野家 ½ ①",
    "e\u0301tude_x",
    "ΟΔΟΣ",
    "\u0301開頭",
    "3-2=1 ＋ ２",
]


def passages(count: int, length: int, seed: int = 0) -> list[str]:
    """Texts of the corpus' own phrases in random order, so that any two share some n-grams."""
    whole = "".join(path.read_text(encoding="utf-8") for path in sorted(CORPUS.glob("*/*.md")))
    rng = random.Random(seed)
    starts = [[rng.randrange(len(whole) - 20) for _ in range(length // 20)] for _ in range(count)]
    return ["".join(whole[start : start + 20] for start in row) for row in starts]


@pytest.mark.parametrize("keep", ["", OPERATORS])
def test_texts_fold_the_same_alone_and_together(keep: str) -> None:
    """One call for many texts is only faster: no character may cross from one text to its neighbour."""
    texts = [*STRANGE, *passages(600, 60)]
    assert list(fold_all(texts, keep)) == [fold(text, keep) for text in texts]


def test_normalisation_is_unicodes_own() -> None:
    """Looking only at what may change is faster; a mark that combines across a border of pieces must not be lost."""
    assert all(unicodedata.is_normalized("NFKC", chr(code)) for code in range(0x30000) if stable(chr(code)))
    assert not any(unicodedata.combining(chr(code)) for code in range(0x30000) if stable(chr(code)))
    ranges = ((0x20, 0x7F), (0xA0, 0x180), (0x300, 0x345), (0x1100, 0x11FF), (0x3000, 0x3130), (0xAC00, 0xAC20))
    ranges += ((0xFF00, 0xFFEF), (0xF900, 0xF920), (0x2460, 0x2470), (0x4E00, 0x4E40), (0x9BE, 0x9D8))
    rng, known = random.Random(0), [chr(code) for start, end in ranges for code in range(start, end)]
    for _ in range(4000):
        text = "".join(rng.choices(known, k=rng.randrange(1, 12)))
        assert nfkc(text) == unicodedata.normalize("NFKC", text), ascii(text)


def stable(character: str) -> bool:
    return re.fullmatch(f"[{STABLE}]", character) is not None


def test_ngram_hashes_stand_for_ngram_sets() -> None:
    """Sizes and overlaps of the hashed sets are those of the sets of strings, for texts of any length."""
    texts = [*STRANGE, *passages(40, 200), "好" * 50]
    hashed = ngram_hashes(texts, 5)
    assert all(np.all(np.diff(own.astype(object)) > 0) for own in hashed), "sorted and distinct"
    for i, text in enumerate(texts):
        for j in range(i):
            shared = len(np.intersect1d(hashed[i], hashed[j]))
            union = len(hashed[i]) + len(hashed[j]) - shared
            assert (shared / union if shared else 0.0) == jaccard(ngrams(text, 5), ngrams(texts[j], 5))


def test_numbers_do_not_depend_on_width_script_or_commas() -> None:
    """A number written otherwise is the same number, and a Chinese comma joins no two numbers."""
    assert numbers("共１，２００元") == numbers("共1 200元") != numbers("共1,200元")
    assert numbers("3，4，5") == ("3", "4", "5")
    assert numbers("两万零五") == numbers("兩萬零五") == numbers("20005")
    assert numbers("５＋３＝８") == numbers("5+3=8") == ("+", "3", "5", "8", "=")


def test_search_form_has_one_spelling_of_zhe() -> None:
    """看著 is written 看着 in Simplified, while 顯著 keeps its character: folded, both scripts meet."""
    assert fold("看著顯著的變化") == fold("看着显著的变化")


def test_growing_arrays_and_band_tables_keep_everything() -> None:
    """A table that grows loses no text and finds none twice."""
    rng = np.random.default_rng(0)
    keys, table, store = rng.integers(0, 3000, (5000, 4)).astype(np.uint32), BandTable(), Growing(np.int64)
    for start in range(0, 5000, 700):
        texts = np.arange(start, min(start + 700, 5000), dtype=np.int32)
        table.insert(keys[texts], texts)
        store.extend(texts)
    assert np.array_equal(store.rows, np.arange(5000))
    query, found = table.pairs(keys[:200])
    for at in range(200):
        expected = np.flatnonzero(np.isin(keys, keys[at]).any(axis=1))
        assert np.array_equal(found[query == at], expected)


def test_sketches_agree_as_often_as_sets_do() -> None:
    """MinHash's one property: two sets share a minimum with probability of their Jaccard similarity."""
    rng = np.random.default_rng(1)
    pool = rng.integers(0, 2**63, 600, dtype=np.uint64)
    left, right = np.sort(pool[:400]), np.sort(pool[200:])
    sketcher = Sketcher(bands=512, seed=1)
    shares = (sketcher.keys([left], np.zeros(1)) == sketcher.keys([right], np.zeros(1))).mean()
    assert abs(shares - (1 / 3) ** 4) < 0.02
    other = sketcher.keys([left], np.ones(1))
    assert (sketcher.keys([left], np.zeros(1)) == other).mean() < 0.01, "another group, other keys"


def exact_truth(texts: list[str], threshold: float) -> dict[int, float]:
    """Texts that repeat an earlier kept one, with the highest similarity, by comparing all pairs."""
    kept, removed = [], {}
    for at, text in enumerate(texts):
        own = ngrams(text, 5)
        best = max((jaccard(own, other) for other in kept), default=0.0)
        if best >= threshold:
            removed[at] = best
        else:
            kept.append(own)
    return removed


def edited(text: str, share: float, rng: random.Random) -> str:
    characters = list(text)
    for at in rng.sample(range(len(text)), max(1, int(share * len(text)))):
        characters[at] = rng.choice("山水火木金土日月")
    return "".join(characters)


@pytest.mark.parametrize("batch", [1, 64, 512])
def test_near_duplicates_are_those_of_all_pairs(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proposals and cheap tests must not change what comparing every pair would find, in batches of any size."""
    monkeypatch.setattr(near_duplicates, "BATCH", batch)
    monkeypatch.setattr(near_duplicates, "IN_MEMORY", 2**16)  # most hashes go through the temporary file
    rng = random.Random(3)
    texts = passages(100, 200, seed=3)
    texts += [edited(rng.choice(texts), rng.choice([0.01, 0.03, 0.06, 0.1]), rng) for _ in range(200)]
    rng.shuffle(texts)
    core = near_duplicates.NearDuplicates(0.7)
    groups = np.zeros(len(texts), np.int64)
    found = core.add(texts[:130], groups[:130]) + core.add(texts[130:], groups[130:])
    truth = exact_truth(texts, 0.7)
    assert {at: witness[1] for at, witness in enumerate(found) if witness} == pytest.approx(truth)
    for at, witness in enumerate(found):
        if witness:
            assert found[witness[0]] is None and witness[0] < at
            assert witness[1] == jaccard(ngrams(texts[at], 5), ngrams(texts[witness[0]], 5))


def test_groups_and_views_forbid_pairs() -> None:
    """Texts of different groups never repeat each other; nor do those that agree in no view."""
    texts, none = ["台灣最高的山是玉山，主峰海拔很高"] * 4, np.zeros(4, np.int64)
    groups, views = np.array([7, 8, 7, 8]), np.array([[1, 1], [2, 2], [3, 1], [2, 3]])
    assert near_duplicates.NearDuplicates(0.7).add(texts, none) == [None, (0, 1.0), (0, 1.0), (0, 1.0)]
    assert near_duplicates.NearDuplicates(0.7).add(texts, groups) == [None, None, (0, 1.0), (1, 1.0)]
    found = near_duplicates.NearDuplicates(0.7, views=2).add(texts, none, views)
    assert found == [None, None, (0, 1.0), (1, 1.0)]
    assert near_duplicates.NearDuplicates(0.7).add(["", ""], none[:2]) == [None, None], "nothing repeats nothing"


def test_the_first_broken_rule_is_named() -> None:
    """Rules apply in their order, and a sound answer breaks none."""
    assert first_broken(Answer("玉山很高，玉山很高，玉山很高，玉山很高，玉山很高，玉山很高、"))[0] == "repetition"
    assert first_broken(Answer("玉山是台灣最高的山，主峰海拔三千九百五十二公尺。")) == ("", "")
    assert first_broken(Answer("7", question="三加四？", math=True)) == ("", "") and next(iter(RULES)) == "empty"
