"""The open-book questions about the articles set aside: each can be asked, answered from its article, and no other."""

from collections import Counter

import pytest

from kyara_utils.curation.decontamination import BenchmarkNgrams
from kyara_utils.evaluation.miniature.items import FOLDER, benchmark_texts, load_items
from kyara_utils.knowledge.readers.unseen import is_unseen
from kyara_utils.runs.tables import Row
from kyara_utils.text.normalise import script_of, simplified_characters

CORPUS = FOLDER.parent / "corpus"
SHARE = 0.2  # what the recipes set aside
SETS = {"open_book": ("ob", 9), "open_book_absent": ("oba", 3)}  # prefix of the ids, fewest questions an article


def article(path: str) -> str:
    return (CORPUS / path).read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=SETS)
def items(request) -> list[Row]:
    return load_items(request.param)


def test_every_article_set_aside_has_its_questions(items):
    """A question about an article that models were trained on measures memory, not reading."""
    prefix, fewest = SETS["open_book" if "answers" in items[0] else "open_book_absent"]
    assert [item["id"] for item in items] == [f"{prefix}_{n:03}" for n in range(1, len(items) + 1)]
    asked = Counter(item["path"] for item in items)
    paths = {path.relative_to(CORPUS).as_posix() for path in CORPUS.glob("*/*.md")}
    assert set(asked) == {path for path in paths if is_unseen(path, SHARE)}
    assert min(asked.values()) >= fewest


def test_questions_are_questions_in_traditional_script(items):
    for item in items:
        question = item["question"]
        assert question.endswith("？") and question.count("？") == 1 and 10 <= len(question) <= 45, question
        assert script_of(question) == "zh-Hant", question
        assert not any(word in question for word in ("本文", "文中", "上述", "該", "這篇", "是否", "嗎")), question


def test_no_question_is_asked_twice():
    questions = [item["question"] for name in SETS for item in load_items(name)]
    assert len(set(questions)) == len(questions)


def test_the_answer_stands_in_the_article_and_not_in_the_question():
    """An answer that the article does not hold marks a right reader wrong; one in the question marks a parrot right."""
    for item in load_items("open_book"):
        gold, *aliases = item["answers"]
        assert gold in article(item["path"]) and 1 <= len(gold) <= 20, item
        assert all(answer and answer == answer.strip() and answer not in item["question"] for answer in item["answers"])
        assert len({gold, *aliases}) == len(item["answers"]), item
        assert not simplified_characters("".join(item["answers"])), item


def test_an_article_has_no_two_questions_with_one_answer():
    """A reader who repeats one name would be right twice."""
    golds = Counter((item["path"], item["answers"][0]) for item in load_items("open_book"))
    assert max(golds.values()) == 1, golds.most_common(3)


def test_no_question_copies_a_sentence_of_the_corpus(items):
    """Copied words can be matched without reading; and step 04 would drop every training row that quotes them."""
    grams = BenchmarkNgrams((item["id"], item["question"]) for item in items)
    found = {path.stem: grams.match(line) for path in CORPUS.glob("*/*.md") for line in article(path).splitlines()}
    assert not {stem: hit for stem, hit in found.items() if hit}


def test_questions_are_kept_out_of_training(items):
    texts = benchmark_texts()
    assert all(texts[item["id"]].startswith(item["question"]) for item in items)
