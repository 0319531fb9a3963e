"""Questions read from documents: DRCD's scorer by hand, contexts, the fixed sentence, citations, and form."""

import json
from pathlib import Path
from statistics import mean
from types import SimpleNamespace

import pytest

from kyara_utils.evaluation import evaluate, stages
from kyara_utils.evaluation.backends.backend import EndpointBackend, ReplayBackend
from kyara_utils.evaluation.benchmark import Questions, Source
from kyara_utils.evaluation.miniature import items
from kyara_utils.evaluation.ratios import ratio_difference, ratio_row
from kyara_utils.evaluation.reading import contexts, drcd
from kyara_utils.evaluation.reading.answer_match import contains, first_line, normalise, score_short
from kyara_utils.evaluation.registry import get
from kyara_utils.evaluation.report_tables import differences_markdown
from kyara_utils.evaluation.summary import compare
from kyara_utils.llm import Response
from kyara_utils.runs import KyaraError, content_id, write_rows
from kyara_utils.runs.schemas import DOCUMENT
from kyara_utils.text.citation_form import NO_ANSWER

DRCD = Path(__file__).parents[1].parent / "shared" / "ground_truth" / "drcd" / "DRCD_dev.json.gz"
SENTENCE = NO_ANSWER["zh-Hant"]
TEXTS = {
    "a/tea.md": ("茶", "茶葉在一八六六年由英國商人引進安溪的茶苗。\n\n茶在大稻埕加工後外銷。"),
    "a/rice.md": ("稻米", "稻米在清明前後插秧，約四個月後收割。"),
    "b/train.md": ("火車", "縱貫線鐵路於1908年全線通車，從基隆到高雄。"),
    "b/paper.md": ("紙", "造紙術由蔡倫改良，時間是公元105年。"),
}
ASKED = [
    {"id": "q1", "path": "a/tea.md", "question": "茶在哪裡加工後外銷？", "answers": ["大稻埕"]},
    {"id": "q2", "path": "b/train.md", "question": "縱貫線鐵路哪一年通車？", "answers": ["1908年", "一九〇八年"]},
    {"id": "q3", "path": "arts/tang-poetry.md", "question": "唐詩時期誰號稱詩仙？", "answers": ["李白"]},
]
ABSENT = [{"id": "x1", "path": "a/rice.md", "question": "稻米一公斤賣多少錢？"}]


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Three hand-written questions, one of them on an article that was not set aside, and an absent one."""
    for name, rows in (("open_book", ASKED), ("open_book_absent", ABSENT)):
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    monkeypatch.setattr(items, "FOLDER", tmp_path)
    rows = [{"id": content_id(p), "title": t, "text": x, "path": p} for p, (t, x) in TEXTS.items()]
    write_rows(tmp_path / "unseen.parquet", rows, DOCUMENT)
    return Source("", tmp_path, unseen=tmp_path / "unseen.parquet")


def scored(name, questions, **texts):
    """Scored rows of stored answers {model: {item id: text}}; "*" stands for all others."""
    one, rows = get(name), []
    for model, known in texts.items():
        stored = [{"id": item["id"], "text": known.get(item["id"], known.get("*"))} for item in questions.items]
        backend = ReplayBackend([row for row in stored if row["text"] is not None])
        rows += one.score_all(questions, {model: one.ask(backend, questions.items, 16)}, None)
    return rows


def table(rows):
    """{(model, metric): score row}."""
    return {(row["model"], row["metric"]): row for row in evaluate.summarise(rows)}


# The scorer


@pytest.mark.parametrize(
    ("text", "golds", "exact", "f1"),
    [
        ("威廉·瓊斯", ["威廉·瓊斯"], True, 1.0),
        ("《全唐詩》，", ["全唐詩"], True, 1.0),  # marks of DRCD's list go
        ("「大稻埕」", ["大稻埕"], False, 6 / 8),  # quotation marks are not on it: 3 shared, 5 and 3 characters
        ("約1300度", ["1300度", "攝氏1300度"], False, 10 / 11),  # the best gold answer counts: 5 shared, 6 and 5
        ("The Beatles", ["beatles"], True, 1.0),
        ("New York", ["newyork"], False, 14 / 15),  # the space stays a character: 7 shared, 8 and 7
        ("一一二", ["一二二"], False, 4 / 6),  # bags: 一 once, 二 once
        ("高雄", ["基隆"], False, 0.0),
        ("", ["基隆"], False, 0.0),
    ],
)
def test_exact_match_and_f1_by_hand(text, golds, exact, f1):
    """Words instead of characters, or an average over gold answers, would give other figures on every line."""
    found = score_short(text, golds)
    assert (found["outcome"] == "correct", found["f1"]) == (exact, pytest.approx(f1))


def test_simplified_answers_are_wrong_until_they_are_folded():
    """One figure would hide whether a model cannot read, or reads and answers in the other script."""
    found = score_short("台湾铁路。", ["臺灣鐵路", "台灣鐵路"])
    assert (found["outcome"], found["folded"]) == ("wrong", "correct")
    assert found["f1"] == pytest.approx(0.5) and found["folded_f1"] == 1.0  # 台 and 路 of four
    assert score_short("「大稻埕」", ["大稻埕"])["folded"] == "correct"
    assert normalise(" A  tale, of 《x》 ") == "tale of x" and contains("茶在大稻埕、加工", ["大稻埕加工"])
    assert contains("一共24匹馬", ["24匹", "24"]) and not contains("一共24匹馬", ["4匹", "4", "四"])
    assert not contains("住了十三年", ["三年"]) and contains("住了三年", ["三年"])
    assert contains("4。", ["四匹", "4"]) and not contains("什麼都沒有", [])
    assert first_line("\n 巴黎 \n因為…") == "巴黎" and first_line("") == ""


@pytest.mark.skipif(not DRCD.is_file(), reason=f"{DRCD} is not there")
def test_people_agree_as_the_paper_says():
    """The paper gives people an F1 of 93.30 on the test half; other countings are ten points away."""
    pairs = [row["answers"] for row in asked_twice()]
    found = [score_short(second, [first]) for first, second in pairs]
    exact, f1 = 100 * mean(row["outcome"] == "correct" for row in found), 100 * mean(row["f1"] for row in found)
    assert len(found) == 3524 and exact == pytest.approx(79.06, abs=0.01) and f1 == pytest.approx(92.42, abs=0.01)


def asked_twice():
    for article in drcd.read_json(DRCD)["data"]:
        for paragraph in article["paragraphs"]:
            yield from ({"answers": [answer["text"] for answer in q["answers"]]} for q in paragraph["qas"])


# Contexts


def test_documents_of_a_question(source):
    """Distractors drawn for each question would make every prompt new; a gold article lost would ask the impossible."""
    questions = get("open_book").load(source)
    found = {item["id"]: item for item in questions.items}
    assert len(found) == 6 and [item["variant"] for item in questions.items] == ["alone"] * 3 + ["distractors"] * 3
    assert [d["title"] for d in found["q1/alone"]["documents"]] == ["茶"]
    assert found["q3/alone"]["documents"][0]["title"] == "唐詩", "the bundled article, its heading as the title"
    among = found["q1/distractors"]["documents"]
    assert len(among) == 3 and "a/tea.md" in {d["path"] for d in among} <= TEXTS.keys()
    assert found["q1/alone"]["evidence"].endswith("茶在大稻埕加工後外銷。")
    again = contexts.shelf(source, ["a/tea.md"])
    assert again.among("a/tea.md") == among and "a/tea.md" not in {d["path"] for d in again.without("a/tea.md")}
    shuffled = [contexts.Shelf(again.documents, again.unseen, seed).among("a/tea.md") for seed in range(20)]
    assert {[d["path"] for d in one].index("a/tea.md") for one in shuffled} == {0, 1, 2}


def test_long_documents_leave_room_for_others(source):
    """Three long documents would not fit a small model's context, and each such call would fail."""
    rows = {str(n): {"path": str(n), "title": f"t{n}", "text": "字" * (300 + 50 * n)} for n in range(30)}
    shelf = contexts.Shelf(rows, frozenset(rows))
    for path in rows:
        found = shelf.among(path)
        assert sum(len(one["text"]) for one in found) <= max(contexts.ROOM, len(rows[path]["text"]))


def test_nothing_set_aside_is_a_reason(source):
    """A recipe that set nothing aside must not be asked about what it was trained on."""
    for bare in (Source("", source.root), Source("", source.root, unseen=source.root / "none.parquet")):
        for name in ("open_book", "unanswerable", "cited"):
            with pytest.raises(KyaraError, match="unseen_share"):
                get(name).load(bare)
    with pytest.raises(KyaraError, match="no article"):
        contexts.bundled("../benchmarks/README.md")


def test_seen_articles_are_scored_apart(source):
    """An article that was not set aside went into training, though the question itself is nowhere quoted."""
    questions = get("open_book").load(source)
    rows = scored("open_book", questions, sft={"*": "大稻埕"})
    suite = evaluate.Suite({"open_book": questions})
    split, seen = evaluate.split(suite, rows, iter(["茶葉在一八六六年由英國商人引進安溪的茶苗。"]))
    parts = {(row["part"], row["metric"]): row for row in split}
    assert seen == 2 + 2 and "2 of them" in questions.note
    assert parts["seen in training", "f1"]["n"] == 2 and parts["seen in training", "exact"]["value"] == 0.5
    assert parts["clean", "f1"]["n"] == 1


# Asking


class Spy:
    """A client that keeps what it was asked."""

    usage: dict = {}

    def __init__(self, dialect):
        self.model, self.asked = SimpleNamespace(name="m", dialect=dialect), []

    def ask(self, requests, label=""):
        self.asked += requests
        return [Response("call", "大稻埕", "stop") for _ in requests]


@pytest.mark.parametrize("name", ["open_book", "cited"])
def test_a_base_model_is_shown_examples_and_the_others_the_rows_they_know(source, name):
    """The fair baseline answers behind examples, and ends at its line; a trained model in the form of its rows."""
    questions, asked = get(name).load(source), {}
    for key, dialect, examples in (("base", "completion", False), ("sft", "chat", False), ("teacher", "chat", True)):
        spy = Spy(dialect)
        get(name).ask(EndpointBackend(spy, None, examples), questions.items, 2000)
        asked[key] = spy.asked
    assert asked["base"] == asked["teacher"] and len(asked["base"]) == len(questions.items)
    assert asked["base"][0].stop == ("\n",) and asked["base"][0].messages[0]["role"] == "system"
    assert asked["sft"][0].stop == () and [m["role"] for m in asked["sft"][0].messages] == ["user"]
    assert {request.max_tokens for request in asked["base"] + asked["sft"]} == {get(name).longest} <= {32, 160}
    for one in ("base", "sft"):
        text = asked[one][0].messages[-1]["content"]
        item = questions.items[0]
        assert item["question"] in text and all(d["title"] in text for d in item["documents"])


def test_only_known_models_are_evaluated():
    """A slip in a recipe would leave a model out in silence."""
    with pytest.raises(KyaraError, match="no model sfft"):
        stages.stages(None, 80, ["base", "sfft"])


# Scores


def test_both_variants_have_their_scores_and_differences(source):
    """A metric for each measure and variant, n and interval each, and a failed call that is no wrong answer."""
    questions = get("open_book").load(source)
    right = {"q1/alone": "大稻埕\n因為", "q2/alone": "一九〇八年", "q3/alone": "李白", "q1/distractors": "大稻埕。"}
    rows = scored("open_book", questions, base={"*": "不知道"}, sft=right | {"q2/distractors": "1908"})
    scores = table(rows)
    assert scores["sft", "exact"]["value"] == 1.0 and scores["sft", "f1"]["value"] == 1.0
    among = scores["sft", "f1, distractors"]
    assert among["value"] == pytest.approx((1 + 8 / 9) / 3) and (among["n"], among["unscored"]) == (3, 1)
    assert among["low"] <= among["value"] < among["high"]
    assert scores["sft", "exact folded, distractors"]["value"] == pytest.approx(1 / 3)
    found = {row["metric"]: row for row in evaluate.differences(rows, ["base", "sft"])}
    assert found["exact"]["difference"] == 1.0 and found["exact"]["p_mcnemar"] == 0.25
    assert found["f1, distractors"]["n"] == 2 and found["f1, distractors"]["minimum_detectable"] > 0
    assert "| open_book | f1, distractors | sft | base |" in differences_markdown(found.values())


def test_graded_scores_are_compared_by_their_values():
    """Counting an F1 of .9 as a discordant pair, or as nothing, would both give a wrong p."""
    rows = [{"model": "a", "id": str(i), "f1": 0.5 + 0.01 * i} for i in range(20)]
    rows += [{"model": "b", "id": str(i), "f1": 0.5} for i in range(20)]
    found = compare(rows, "a", "b", "f1")
    assert found["difference"] == pytest.approx(0.095) and found["low"] > 0 and found["p_mcnemar"] != found["p_mcnemar"]
    assert found["minimum_detectable"] == pytest.approx(2.8016 * 0.0591608 / 20**0.5, rel=1e-3)


def test_saying_so_has_precision_and_recall(source):
    """A model that always says so has full recall; F1 must show what it costs."""
    questions = get("unanswerable").load(Source("", source.root, seed=4, unseen=source.unseen))
    absent = [item["id"] for item in questions.items if not item["answers"]]
    left_out = [item for item in questions.items if "left out" in item["id"]]
    assert "x1/distractors" in absent and len(questions.items) == 3 + len(absent)
    for item in left_out:
        assert item["documents"] and item["path"] not in {d["path"] for d in item["documents"]}
    always = dict.fromkeys([item["id"] for item in questions.items], "参考文件缺乏与问题相关资讯")
    never = {"*": "大稻埕"}
    mixed = {"*": "大稻埕", "x1/distractors": SENTENCE, "q1/distractors": f"{SENTENCE}但是…"}
    scores = table(scored("unanswerable", questions, always=always, never=never, mixed=mixed))
    total, none = len(questions.items), len(absent)
    assert scores["always", "recall"]["value"] == 1 and scores["always", "answered"]["value"] == 0
    assert scores["always", "precision"]["value"] == pytest.approx(none / total)
    assert scores["always", "f1"]["value"] == pytest.approx(2 * none / (total + none))
    assert scores["never", "f1"]["value"] == 0 and scores["never", "precision"]["n"] == 0
    assert scores["mixed", "precision"]["value"] == 0.5 and scores["mixed", "precision"]["n"] == 2
    assert scores["mixed", "f1"]["value"] == pytest.approx(2 / (2 + none))
    for row in scores.values():
        assert not row["n"] or 0 <= row["low"] <= row["value"] <= row["high"] <= 1


def test_questions_without_their_article_cannot_be_answered(source):
    """A distractor that happens to hold the answer would punish the model that found it."""
    told = {"id": "z", "title": "z", "text": "大稻埕的茶行很多。", "path": "z.md"}
    shelf = contexts.shelf(source, [row["path"] for row in ASKED])
    full = contexts.Shelf({**shelf.documents, "z.md": told}, frozenset({"z.md", "a/tea.md"}), 0)
    from kyara_utils.evaluation.reading.unanswerable import unanswerable_items

    for seed in range(30):
        drawn = Source("", source.root, seed=seed, unseen=source.unseen)
        ids = [item["id"] for item in unanswerable_items(drawn, ASKED[:1], "unanswerable", _absent_known(full))]
        assert ids == ["x1/distractors"]


def _absent_known(shelf):
    title, text = TEXTS["a/rice.md"]
    rice = {"id": "r", "title": title, "text": text, "path": "a/rice.md"}
    return contexts.Shelf({**shelf.documents, "a/rice.md": rice}, shelf.unseen, shelf.seed)


def test_citations_are_scored_against_the_known_source(source):
    """Right words under a wrong source, a right source under wrong words, and ids that nobody showed."""
    questions = get("cited").load(source)
    tea, train = content_id("a/tea.md"), content_id("b/train.md")
    wrong = next(d["id"] for d in item_of(questions, "q2/distractors")["documents"] if d["id"] != train)
    texts = {
        "q1/distractors": f"茶在大稻埕加工後外銷【{tea}】。",
        "q2/distractors": f"縱貫線在1908年通車[{train}]，見【{wrong}】。",
        "q3/distractors": "是李白【id_00000000】。",
        "x1/distractors": SENTENCE,
    }
    scores = table(scored("cited", questions, sft=texts, base={"*": "不知道"}))
    assert scores["sft", "correct"]["value"] == pytest.approx(2 / 3) and scores["sft", "correct"]["n"] == 3
    assert scores["sft", "answer"]["value"] == 1 and scores["sft", "citation recall"]["value"] == pytest.approx(2 / 3)
    assert scores["sft", "citation precision"]["value"] == pytest.approx(2 / 4)
    assert scores["sft", "citation precision"]["n"] == 4 and scores["base", "citation precision"]["n"] == 0
    assert scores["sft", "normal form"]["value"] == pytest.approx(1 / 3)
    assert scores["sft", "no answer"]["value"] > 0 and scores["base", "no answer"]["value"] == 0
    rows = scored("cited", questions, sft=texts, base={"*": f"茶【{tea}】"})
    found = {row["metric"]: row for row in get("cited").differences(rows, [("sft", "base")])}
    assert found["citation precision"]["difference"] == pytest.approx(2 / 4 - 1 / 4)  # over shared items
    assert {"correct", "answer", "citation recall", "normal form", "citation precision"} <= found.keys()


def item_of(questions, name):
    return next(item for item in questions.items if item["id"] == name)


def test_ratios_are_of_sums_and_never_without_width():
    """A mean of items' own ratios would count an answer with one citation as much as one with ten."""
    row = ratio_row("b", "m", "precision", [(1, 1), (0, 3), (0, 0)], 4, 0, "r")
    assert row["value"] == 0.25 and 0 <= row["low"] < 0.25 < row["high"]
    sure = ratio_row("b", "m", "share", [(0, 1000)] * 5, 5000, 0, "r")
    assert sure["value"] == 0 and 0 < sure["high"] < 0.001
    one, two = {str(i): (1, 2) for i in range(30)}, {str(i): (0, 1) for i in range(31)}
    found = ratio_difference(one, two, ("a", "b"))
    assert found["difference"] == 0.5 and found["n"] == 30 and found["p"] < 0.01
    assert ratio_difference(one, {"0": (0, 0)}, ("a", "b")) == {}


# DRCD


def published(folder, name="DRCD_dev.json"):
    """Two articles of the published layout."""
    article = lambda n: {  # noqa: E731
        "title": f"題{n}", "id": str(n),
        "paragraphs": [{"id": f"{n}-1", "context": f"第{n}篇說台北在北方。", "qas": [
            {"id": f"{n}-1-1", "question": "哪裡在北方？", "answers": [{"id": "1", "text": "台北", "answer_start": 4},
                                                             {"id": "2", "text": "台北", "answer_start": 4}]}]}],
    }  # fmt: skip
    (folder / name).write_text(json.dumps({"version": "1.3", "data": [article(n) for n in range(9)]}), encoding="utf-8")


def test_drcd_is_read_from_its_published_file(tmp_path, monkeypatch):
    """The test half replaces the development half; a folder without either says which names are looked for."""
    monkeypatch.delenv("KYARA_EVAL_DATA", raising=False)
    folder = Source(tmp_path.name, tmp_path.parent, limit=4)
    with pytest.raises(KyaraError, match="no DRCD_test.json"):
        get("drcd").load(folder)
    with pytest.raises(KyaraError, match="KYARA_EVAL_DATA"):
        get("drcd").load(Source())
    published(tmp_path)
    questions = get("drcd").load(folder)
    assert questions.origin == "DRCD_dev.json" and len(questions.items) == 8
    assert all(len(item["documents"]) == (1 if item["variant"] == "alone" else 3) for item in questions.items)
    assert len({item["path"] for item in questions.items}) == 4 and questions.items[0]["answers"] == ["台北"]
    few = get("drcd").load(Source(tmp_path.name, tmp_path.parent, limit=4, miniature={"drcd": 2}))
    assert len(few.items) == 4, "an entry of its own goes before the limit of all"
    published(tmp_path, "DRCD_test.json")
    assert get("drcd").load(folder).origin == "DRCD_test.json"
    (tmp_path / "DRCD_test.json").write_text('{"data": [{"title": 1}]}')
    with pytest.raises(KyaraError, match="not the published file"):
        get("drcd").load(folder)


@pytest.mark.skipif(not DRCD.is_file(), reason=f"{DRCD} is not there")
def test_the_whole_development_half():
    """Every question of the real file finds its evidence and its room, and gold answers score as gold."""
    questions = get("drcd").load(Source("drcd", DRCD.parents[1], limit=300))
    assert len(questions.items) == 600 and all(item["evidence"] for item in questions.items)
    assert max(sum(len(d["text"]) for d in item["documents"]) for item in questions.items) <= contexts.ROOM
    rows = scored("drcd", questions, gold={item["id"]: item["answers"][0] for item in questions.items})
    assert {row["value"] for row in evaluate.summarise(rows)} == {1.0}


# Form


def test_form_is_read_off_all_answers():
    """What the prompt holds is no leak, a Simplified prompt may be answered alike, and equal answers count once."""
    suite = evaluate.Suite({
        "open_book": Questions([one_item("p1", "台灣在哪裡？"), one_item("p2", "「语言」是什麼字體？")]),
        "unanswerable": Questions([one_item("p1", "台灣在哪裡？")]),
        "maths": Questions([{"id": "m1", "question": "一加一是多少？", "answer": "2"}]),
        "form": Questions([]),
    })  # fmt: skip
    said = {
        "open_book": [reply("在东亚"), reply("语言")], "unanswerable": [reply("在东亚")],
        "maths": [reply("軟件說\nmodel\n答案是2", "length")], "form": [],
    }  # fmt: skip
    rows = [row for row in evaluate.score(suite, {"sft": said}) if row["benchmark"] == "form"]
    assert len(rows) == 3
    scores = {row["metric"]: row for row in get("form").summarise(rows)}
    shares = {name: round(row["value"] * row["n"], 6) for name, row in scores.items()}
    assert shares["ends by itself"] == 2 and shares["no Simplified character"] == 2
    assert shares["no mainland term"] == 2 and shares["template intact"] == 2
    assert shares["instructions kept"] == 3 and scores["instructions kept"]["n"] == 3
    assert shares["Simplified"] == 2 and scores["Simplified"]["n"] == 3 + 2 + 6
    assert all(row["low"] <= row["value"] <= row["high"] for row in scores.values())


def one_item(name, question):
    return {"id": name, "question": question, "variant": "alone", "answers": ["x"], "evidence": "", "unseen": True}


def reply(text, finish_reason="stop"):
    return {"text": text, "finish_reason": finish_reason, "error": ""}
