"""The filters of step 04: each fault is caught, good rows pass, and no row disappears unaccounted for."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

from kyara_utils.curation import (
    cells,
    codes,
    decontamination,
    duplicates,
    filters,
    language,
    quality_rules,
    semantic_duplicates,
    tags,
)
from kyara_utils.evaluation.miniature.items import benchmark_texts
from kyara_utils.runs import funnel
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.schemas import CONVERSATION
from kyara_utils.runs.stored_rows import stored
from kyara_utils.runs.tables import content_id, read_jsonl
from kyara_utils.text import answer_rules, folding
from kyara_utils.text.normalise import converter, simplified_characters

DATA = Path(language.__file__).parents[1] / "data"

GOOD = [  # (question, answer, source)
    (
        "為什麼海水是鹹的？",
        "海水的鹽分主要來自岩石風化。雨水把礦物質帶進河流，再流入大海；水分蒸發後，鹽類留在海裡，"
        "經過數億年累積，就成了今天約百分之三點五的鹽度。",
        "rag",
    ),
    ("請推薦三個台南的古蹟。", "台南有許多值得一看的古蹟：\n\n1. 赤崁樓\n2. 安平古堡\n3. 台南孔廟", "rag"),
    ("小明有15顆糖，分給3位同學，每人幾顆？", "15 ÷ 3 = 5\n答案是5", "math"),
    ("一個長方形長8公分、寬5公分，面積是多少？", "面積＝長×寬＝8×5＝40平方公分", "math"),
    (
        "怎麼煮出好吃的滷肉飯？",
        "先把五花肉切丁，煸出油脂後加入紅蔥頭爆香，再放醬油、冰糖與米酒，小火燉煮四十分鐘。"
        "最後淋在熱騰騰的白飯上即可！",
        "rag",
    ),
    (
        "Python 的 list 和 tuple 有什麼差別？",
        "list 可以修改，tuple 建立後就不能改。例如：\n\n```python\n"
        "a = [1, 2]\na.append(3)\na.append(3)\na.append(3)\n```",
        "open",
    ),
    (
        "What is photosynthesis?",
        "Photosynthesis is the process by which plants turn light, water and carbon dioxide into sugar and oxygen.",
        "english",
    ),
    (
        "「体」這個字在台灣怎麼寫？",
        "「体」是簡化字，在台灣的正體中文寫作「體」，例如「身體」、「體育」。",
        "open",
    ),
    (
        "請幫我寫一封向客戶致歉的信。",
        "王先生您好：\n\n這次出貨延誤造成您的不便，我們深感抱歉。商品已於今早寄出，預計後天"
        "送達，隨信附上八折優惠券，感謝您的體諒。\n\n客服部 敬上。",
        "open",
    ),
    (
        "圖靈是誰？",
        "圖靈是英國數學家，他身為人工智慧領域的先驅，提出了判斷機器是否具有智慧的圖靈測試【id_0a1b2c3d】。",
        "rag",
    ),
    ("颱風警報什麼時候發布？", "參考文件缺乏與問題相關資訊。", "rag"),
    (
        "請比較高鐵與台鐵。",
        "| 項目 | 高鐵 | 台鐵 |\n|---|---|---|\n| 速度 | 時速三百公里 | 時速一百三十公里 |\n"
        "| 車站 | 十二站 | 兩百多站 |",
        "rag",
    ),
    (
        "「謝謝」的日文怎麼說？",
        "日文的「謝謝」通常說「ありがとう」，對長輩或客人則會說得更客氣一些，在句尾加上敬語。",
        "open",
    ),
    (
        "我今天心情不好，可以安慰我嗎？",
        "聽起來你今天過得很辛苦 😊 不妨先去散步十分鐘，喝杯熱茶，再和信任的朋友聊聊 🍵",
        "open",
    ),
    (
        "請把這段話改得更正式：老闆說明天不用來。",
        "敬啟者：經主管通知，明日毋須到班，特此告知，敬請知悉。",
        "open",
    ),
    ("台灣最高的山是哪一座？", "台灣最高的山是玉山，主峰海拔3,952公尺，位於南投、嘉義與高雄交界。", "rag"),
]

BAD = {
    "empty": ["", "。。。\n", "…"],
    "leaked_prompt": [
        "玉山是台灣最高峰。\n\n問題: 阿里山在哪裡？\n回答: 嘉義。",
        "玉山是台灣最高峰。文件：阿里山位於嘉義。",
        "玉山是台灣最高峰。<end_of_turn>\n<start_of_turn>user",
        "[INST] 請介紹玉山 [/INST] 玉山是台灣最高峰。",
        "### Response:\n玉山是台灣最高峰。",
        "玉山是台灣最高峰。\nHuman: 謝謝你告訴我。",
        "**摘要**：玉山是台灣最高峰。",
        "<reference>玉山是台灣最高峰。</reference>",
    ],
    "refusal": [
        "很抱歉，我無法回答這個問題，請您自行查詢相關資料，謝謝您的理解。",
        "對不起，我幫不上忙。",
        "無法提供這方面的資訊，建議您洽詢專業人士。",
        "I’m sorry, but I can't help with that request.",
    ],
    "meta_talk": [
        "身為AI語言模型，我沒有個人經驗，不過玉山很美。",
        "玉山很美，但我只是一個AI助理。",
        "As an AI, mountains are nice.",
    ],
    "wrong_script": [
        "玉山是台湾最高的山，主峰海拔三千九百五十二公尺。",
        "這座山的名字來自這個传说，流傳至今。",
    ],
    "garbage": [
        "玉山\ufffd是台灣最高峰，海拔很高。",
        "산은 높고 물은 깊다 玉山。",
        "玉山 ★☆★☆★☆★☆ 很高。",
        "玉山是\x01台灣最高峰。",
    ],
    "repetition": [
        "玉山很高，玉山很高，玉山很高，玉山很高，玉山很高，玉山很高。",
        "玉山是台灣最高峰。\n它很美麗也很高。\n玉山是台灣最高峰。\n登山客每年都會前往。\n玉山是台灣最高峰。",
        "好" * 30 + "。",
    ],
    "copies_question": ["台灣最高的山是哪一座，海拔是多少公尺呢？", "台灣最高的山是哪一座海拔是多少公尺呢。"],
    "too_short": ["玉山。", "是的。"],
    "too_long": ["".join(chr(0x4E00 + i % 2000) for i in range(0))],  # filled in below: needs varied good text
    "truncated": [
        "台灣最高的山是玉山，主峰海拔三千九百五十二公尺，位於南投、",
        "登山前應先申請入山證與入園證並且準備足夠的",
    ],
}


def row(ask: str, reply: str, source: str = "rag", **more: object) -> dict:
    messages = [{"role": "user", "content": ask}, {"role": "assistant", "content": reply}]
    base = {"id": content_id(ask, reply), "messages": messages, "source": source, "meta": "{}"}
    return {**base, "lang": "zh-Hant", "parents": [], "call_ids": [], **more}


def good_rows() -> list[dict]:
    return [row(*item) for item in GOOD]


def paragraphs(n: int) -> list[str]:
    found = [
        line
        for path in sorted((DATA / "corpus").glob("*/*.md"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if len(line) > 60
    ]
    return random.Random(0).sample(sorted(found), n)


def ids(rows: list[dict]) -> set[str]:
    return {r["id"] for r in rows}


# --- language -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ("台灣的軟體產業發展很快，工程師待遇也不錯。", "zh-Hant"),
        ("台湾的软件产业发展很快，工程师待遇也不错。", "zh-Hans"),
        ("這裡的风景很好，我们都喜歡來这里拍照。", "mixed"),
        ("The quick brown fox jumps over the lazy dog.", "en"),
        ("你好", "zh-Hant"),
        ("用 Python 寫 FastAPI 服務時，記得先裝好相依套件。", "zh-Hant"),
        ("這是 a sentence which mixes 兩種 languages badly.", "mixed"),
        ("一公里後左轉，公車站在台北的里民中心旁，皇后乾著急。", "zh-Hant"),
        ("以下是範例：\n```python\nfor item in some_list:\n    print(item, flush=True)\n```", "zh-Hant"),
        ("これは日本語の文章です。", "mixed"),
        ("", "mixed"),
        ("42", "mixed"),
    ],
)
def test_language_of(sample: str, expected: str) -> None:
    """A wrong label sends Simplified text into training or throws good Traditional text away."""
    assert language.language_of(sample) == expected


def test_every_corpus_article_is_traditional() -> None:
    """A too wide set of Simplified characters would reject ordinary Taiwanese text."""
    for path in sorted((DATA / "corpus").glob("*/*.md")):
        body = path.read_text(encoding="utf-8")
        assert language.language_of(body) == "zh-Hant" and not simplified_characters(body), path.name


def test_by_language_judges_the_answers_and_sets_lang() -> None:
    """A Simplified answer to a Traditional question must go; a bare number is judged by its question."""
    rows = [
        row("台灣在哪裡？", "台湾在东亚，面积约三万六千平方公里。"),
        row("三加四等於多少？", "7", "math"),
        row("Who?", "Me and you."),
    ]
    kept, rejects = language.by_language(rows)
    assert [r["lang"] for r in kept] == ["zh-Hant", "en"]
    assert [(r["rule"], r["detail"], r["step"]) for r in rejects] == [("language", "lang=zh-Hans", "04_filtering")]
    assert rows[0]["lang"] == "zh-Hant", "the input rows must not change"


# --- quality --------------------------------------------------------------------------------------------


def test_good_rows_pass_every_rule() -> None:
    """A rule that fires on a good answer silently shrinks the set; each rule is tried on its own."""
    for name in answer_rules.RULES:
        kept, rejects = quality_rules.by_quality(good_rows(), rules=[name])
        assert len(kept) == len(GOOD), (name, [(r["detail"], r["row"]) for r in rejects])


def test_corpus_paragraphs_pass_as_answers() -> None:
    """Thresholds must leave well-written encyclopaedic prose alone."""
    rows = [row("請介紹這個主題。", p) for p in paragraphs(150)]
    _, rejects = quality_rules.by_quality(rows)
    assert not rejects, [(r["rule"], r["detail"]) for r in rejects]


@pytest.mark.parametrize("name", list(answer_rules.RULES))
def test_rule_fires_on_planted_rows(name: str) -> None:
    """Each fault of a weak teacher must be caught, under its own name."""
    replies = ["\n\n".join(paragraphs(60))] if name == "too_long" else BAD[name]
    for reply in replies:
        bad = row("台灣最高的山是哪一座？海拔是多少公尺呢？", reply)
        assert quality_rules.by_quality([bad], rules=[name])[0] == [], reply
        _, (reject,) = quality_rules.by_quality([bad])
        assert reject["rule"] == name and reject["detail"], (reply, reject["rule"], reject["detail"])
        assert json.loads(reject["row"])["id"] == bad["id"]


def test_limits_and_unknown_rules() -> None:
    """A threshold given by the recipe must be used, and a misspelt rule must not be skipped."""
    short = row("台灣最高的山？", "玉山很高。")
    assert quality_rules.by_quality([short], answer_rules.Limits(min_chars=3))[0] == [short]
    with pytest.raises(KyaraError, match="unknown quality rules too_shrt; choose from empty"):
        quality_rules.by_quality([short], rules=["too_shrt"])


# --- duplicates -----------------------------------------------------------------------------------------

DETAIL = re.compile(r"witness=(\S+) similarity=([\d.]+)\Z")


def witnesses(rejects: list[dict]) -> dict[str, tuple[str, float]]:
    parsed = {r["id"]: DETAIL.match(r["detail"]) for r in rejects}
    return {key: (m[1], float(m[2])) for key, m in parsed.items()}


def test_exact_duplicates_across_script_width_and_punctuation() -> None:
    """The same row in Simplified script or with other punctuation must not be trained on twice."""
    first = row("為什麼天空是藍色的？", "因為短波長的光，散射較強。", score=0.9)
    copy = row("为什么天空是蓝色的?", "因为短波长的光 散射较强", score=0.1)
    kept, rejects = duplicates.exact_duplicates([copy, first])
    assert kept == [first] and witnesses(rejects) == {copy["id"]: (first["id"], 1.0)}


@pytest.mark.parametrize("source", ["math", "rag"])
@pytest.mark.parametrize(
    ("left", "right"),
    [("1.5加2是多少？", "15加2是多少？"), ("計算 3-2", "計算 3+2"), ("有三顆糖和五顆糖", "有三顆糖和六顆糖")],
)
def test_numbers_guard(left: str, right: str, source: str) -> None:
    """Exercises from one template with other numbers are different exercises, whatever their source is called."""
    long = "小明去市場買菜，回家的路上遇到了鄰居，兩個人一起算了算帳，請問結果如何？"
    rows = [row(long + left, "先列式再計算。", source), row(long + right, "先列式再計算。", source)]
    vectors = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (2, 1))
    assert len(duplicates.exact_duplicates(rows)[0]) == 2
    assert len(duplicates.near_duplicates(rows)[0]) == 2
    assert len(semantic_duplicates.semantic_duplicates(rows, vectors)[0]) == 2


def test_numbers_of_the_answer_tell_one_template_from_another() -> None:
    """Two mountains of one template are two facts; two answers to one question are not."""
    body = "是台灣的高山，位於中央山脈，山容壯麗，登山客每年秋天前往，步道整修完善，主峰高"
    two = [row("玉山有多高？", f"這座山{body}3,952公尺。"), row("雪山有多高？", f"這座山{body}3,886公尺。")]
    one = [row("玉山有多高？", f"這座山{body}3,952公尺。"), row("玉山有多高？", f"這座山{body}3,950公尺。")]
    listed = [row("玉山有多高？", f"1. 這座山{body}3,952公尺。"), row("玉山多高？", f"- 這座山{body}3,952公尺。")]
    assert [len(duplicates.near_duplicates(rows)[0]) for rows in (two, one, listed)] == [2, 1, 1]


def test_a_short_answer_and_a_cited_one_to_a_question_both_stay() -> None:
    """Two tasks that share only their question teach two things; two short answers, or two cited ones, are one."""
    ask = "被稱為北方威尼斯的那座城市，它的舊市政廳是在哪一年由哪一位建築師主持落成的？"
    source, short = "id_0a1b2c3d", json.dumps({"question": ask})
    cited = row(f"文件【{source}】：……\n{ask}", f"1655年，由雅各布完成【{source}】。", "rag_cited", meta=short)
    brief = [row(f"{text}\n{ask}", "1655年，雅各布", "rag_short", meta=short) for text in ("文件甲……", "文件乙……")]
    vectors = np.ones((3, 1), np.float32)
    for find in (duplicates.near_duplicates, lambda rows: semantic_duplicates.semantic_duplicates(rows, vectors)):
        kept, (reject,) = find([cited, *brief])
        assert cited in kept and reject["id"] in ids(brief)
    again = row(f"文件……\n{ask}", f"1655年，由雅各布完成【{source}】。", "rag_cited", meta=short)
    assert len(duplicates.near_duplicates([cited, again])[0]) == 1


def test_numbers_guard_reads_chinese_numerals() -> None:
    """三 and 3 are one number: a rewritten numeral must not hide a duplicate."""
    assert folding.numbers("有三十二顆，又買1,200顆，共兩千零五元") == folding.numbers("有32顆，又買1200顆，共2005元")
    rows = [row("有三顆蘋果又買五顆", "共八顆。", "math"), row("有3顆蘋果又買5顆", "共八顆。", "math")]
    vectors = np.ones((2, 1), dtype=np.float32)
    assert len(semantic_duplicates.semantic_duplicates(rows, vectors)[0]) == 1
    assert (
        folding.numbers("一萬") == ("10000",)
        and folding.numbers("十") == ("10",)
        and folding.numbers("二〇二四") == ("2024",)
    )


def edited(body: str, edits: int, rng: random.Random) -> str:
    characters = list(body)
    for i in rng.sample(range(len(characters)), edits):
        characters[i] = rng.choice("山水火木金土日月")
    return "".join(characters)


def test_near_duplicates_find_planted_edits_and_keep_originals() -> None:
    """At light editing every planted copy must be found, and no two independent paragraphs merged."""
    rng = random.Random(1)
    bodies = paragraphs(120)
    originals = [row("請說明。", body, score=1.0) for body in bodies]
    copies = [row("請說明。", edited(body, max(1, len(body) // 50), rng)) for body in bodies]
    kept, rejects = duplicates.near_duplicates(originals + copies)
    assert ids(originals) <= ids(kept)
    recall = len(rejects) / len(copies)
    assert recall >= 0.95, recall
    source_of = {c["id"]: o["id"] for c, o in zip(copies, originals, strict=True)}
    assert all(source_of[key] == witness for key, (witness, _) in witnesses(rejects).items())


def test_near_duplicates_do_not_depend_on_order() -> None:
    """A reshuffled input must give the same set, or a rerun changes the training data."""
    rng = random.Random(2)
    rows = [row("請說明。", edited(body, n, rng)) for body in paragraphs(20) for n in (0, 1, 2, 3)]
    expected = ids(duplicates.near_duplicates(rows)[0])
    for _ in range(3):
        rng.shuffle(rows)
        assert ids(duplicates.near_duplicates(rows)[0]) == expected


def test_doubtful_pairs_are_decided_by_their_vectors() -> None:
    """A heavily edited copy lies below the threshold; its embedding tells it from another text of the same template."""
    rng = random.Random(3)
    bodies = paragraphs(40)
    rows = [row("請說明。", body, score=1.0) for body in bodies]
    rows += [row("請說明。", edited(body, len(body) // 16, rng)) for body in bodies]
    vectors = np.eye(40, dtype=np.float32)[[at % 40 for at in range(80)]]
    vectors[41] = vectors[0]  # says something else than the row that it was edited from
    alone = duplicates.near_duplicates(rows)[1]
    kept, rejects = duplicates.near_duplicates(rows, doubtful=duplicates.Doubtful(vectors, 0.4, 0.9))
    assert len(alone) <= 5 and len(rejects) >= 36 and rows[41] in kept and ids(rows[:40]) <= ids(kept)
    assert ids(alone) <= ids(rejects) and all(0.4 <= found[1] for found in witnesses(rejects).values())
    order = rng.sample(range(80), 80)
    again = duplicates.Doubtful(vectors[order], 0.4, 0.9)
    assert ids(duplicates.near_duplicates([rows[at] for at in order], doubtful=again)[0]) == ids(kept)


def clustered(n: int, seed: int, width: int = 16) -> np.ndarray:
    """Random unit vectors in loose chains, so that many cosines lie close to the threshold."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(n, width)) * rng.choice([0.03, 0.08, 1.0], size=(n, 1))
    vectors = np.cumsum(steps, axis=0)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("block", [7, 64, 2048])
def test_semantic_invariants(seed: int, block: int) -> None:
    """No two kept rows reach τ, every removed row has a kept witness ≥ τ, and order plays no part."""
    vectors, rng = clustered(300, seed), random.Random(seed)
    rows = [row(f"什麼是{chr(0x6000 + i)}？", "回答。", score=rng.choice([0.0, 0.5, 1.0]), n=i) for i in range(300)]
    kept, rejects = semantic_duplicates.semantic_duplicates(rows, vectors, 0.95, block)
    at = [r["n"] for r in kept]
    cosine = vectors[at] @ vectors[at].T - 2 * np.eye(len(at))
    assert 0 < len(rejects) and cosine.max() < 0.95 + 1e-6
    place = {r["id"]: r["n"] for r in rows}
    for removed, (witness, similarity) in witnesses(rejects).items():
        assert witness in ids(kept)
        true = float(vectors[place[removed]] @ vectors[place[witness]])
        assert true >= 0.95 - 1e-6 and abs(true - similarity) < 1e-3
        assert rows[place[witness]]["score"] >= rows[place[removed]]["score"]
    order = list(range(300))
    rng.shuffle(order)
    again, _ = semantic_duplicates.semantic_duplicates([rows[i] for i in order], vectors[order], 0.95, block)
    assert ids(again) == ids(kept)


def test_semantic_block_size_changes_nothing() -> None:
    """Memory settings must not choose the training data."""
    vectors = clustered(500, 9)
    rows = [row(f"什麼是{chr(0x6000 + i)}？", "回答。") for i in range(500)]
    results = [ids(semantic_duplicates.semantic_duplicates(rows, vectors, 0.9, b)[0]) for b in (1, 13, 100, 1000)]
    assert all(r == results[0] for r in results)


def reference_cover(rows: list[dict], vectors: np.ndarray, threshold: float) -> set[str]:
    """Ids that the greedy rule keeps, by the definition: best first, each row against all kept ones."""
    kept: list[int] = []
    for at in sorted(range(len(rows)), key=lambda i: (-rows[i]["score"], rows[i]["id"])):
        if not kept or (vectors[kept] @ vectors[at]).max() < threshold:
            kept.append(at)
    return {rows[at]["id"] for at in kept}


@pytest.mark.parametrize("clusters", [1, 40])
def test_semantic_bounds_lose_no_pair(clusters: int) -> None:
    """Cells and principal axes only spare work: the result is that of comparing every row with every kept one."""
    rng = np.random.default_rng(clusters)
    centres = rng.normal(size=(clusters, 96)) * np.linspace(2, 0.1, 96)
    vectors = centres[rng.integers(0, clusters, 1500)] + rng.normal(size=(1500, 96)) * 0.13
    vectors[1::3] = vectors[::3] + rng.normal(size=(500, 96)) * rng.choice([0.01, 0.03], (500, 1))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    rows = [row(f"什麼是{chr(0x6000 + i)}？", "回答。", score=float(s)) for i, s in enumerate(rng.random(1500))]
    axes = codes.Axes(vectors, 0.97)
    store = cells.Cells(axes, vectors, len(vectors))
    assert axes.basis.shape[1] < 96 and (len(store.centroids) > 1) == (clusters > 1), "the bounds must be at work"
    kept, rejects = semantic_duplicates.semantic_duplicates(rows, vectors, 0.97, block=256)
    assert ids(kept) == reference_cover(rows, vectors, 0.97) and len(rejects) > 100


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("width", "spread"), [(300, 1.0), (300, 0.1), (24, 1.0), (2, 1.0), (1, 0.0)])
def test_codes_find_every_close_pair(width: int, spread: float, exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding, cut coordinates and left-out axes may let a pair through, never lose one; most are told apart."""
    monkeypatch.setattr(codes, "exact_bytes", lambda: exact)
    rng = np.random.default_rng(width)
    vectors = rng.normal(size=(700, width)) * np.linspace(1, 0.05, width) ** 3 * spread
    vectors[:, 0] += 1.5 - spread
    vectors[350:] = vectors[:350] + rng.normal(size=(350, width)) * rng.choice([0.001, 0.01, 0.05], (350, 1)) * spread
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    order, threshold = rng.permutation(700), 1 - 0.05 * spread**2
    made = codes.Codes(codes.Axes(vectors, threshold), vectors, order)
    row, column = codes.likely(*made.queries(made.places), made.targets)
    found = np.zeros((700, 700), bool)
    found[row, column] = True
    close = vectors[order] @ vectors[order].T >= threshold
    assert len(row) == found.sum() and (found | ~close).all() and close.sum() > 700
    assert width < 24 or found.sum() < 3 * close.sum()


def test_semantic_duplicates_keep_facts_of_one_template_apart() -> None:
    """Two events, or one fact each of two mountains, are no duplicates however close their embeddings lie."""
    pairs = [
        (("第三屆奧運在哪裡？", "在美國。"), ("第四屆奧運在哪裡？", "在英國。")),
        (("玉山有多高？", "玉山主峰高3,952公尺。"), ("雪山有多高？", "雪山主峰高3,886公尺。")),
        (("計算5+3", "答案是偶數。"), ("計算5-3", "答案是偶數。")),
    ]
    vectors = np.ones((2, 1), dtype=np.float32)
    for pair in pairs:
        assert len(semantic_duplicates.semantic_duplicates([row(*item) for item in pair], vectors)[0]) == 2, pair
    same = [row("玉山有多高？", "高3,952公尺。"), row("玉山有多高?", "約為三千九百五十二公尺，1896年測為3,950公尺。")]
    assert len(semantic_duplicates.semantic_duplicates(same, vectors)[0]) == 1, "two answers to one question"
    listed = [row("請列出古蹟。", "1. 赤崁樓\n2. 孔廟"), row("請列出古蹟！請。", "赤崁樓與孔廟")]
    assert len(semantic_duplicates.semantic_duplicates(listed, vectors)[0]) == 1, "list marks are no facts"


def test_nearest_similarities_in_blocks() -> None:
    """The picture shows each row's nearest other row, and only a sample of a large table."""
    vectors = clustered(300, 4)
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -1.0)
    found = semantic_duplicates.nearest_similarities(vectors, block=64)
    assert np.allclose(found, cosine.max(axis=1), atol=1e-6)
    some = semantic_duplicates.nearest_similarities(vectors, at_most=20, seed=1)
    assert len(some) == 20 and np.isin(some.round(4), found.round(4)).all()


def test_semantic_rejects_wrong_vectors() -> None:
    """Unnormalised or misaligned vectors would give wrong duplicates without any error."""
    rows = good_rows()[:3]
    for vectors in (
        np.ones((3, 4), np.float32),
        np.eye(2, dtype=np.float32),
        np.eye(3),
        np.full((3, 1), np.nan, np.float32),
    ):
        with pytest.raises(KyaraError, match="vectors are"):
            semantic_duplicates.semantic_duplicates(rows, vectors)
    with pytest.raises(KyaraError, match="outside"):
        semantic_duplicates.semantic_duplicates(rows, np.eye(3, dtype=np.float32), threshold=95)
    assert semantic_duplicates.semantic_duplicates([], np.empty((0, 4), np.float32)) == ([], [])


# --- decontamination ------------------------------------------------------------------------------------


def benchmark() -> decontamination.BenchmarkNgrams:
    texts = [
        (item["id"], item.get("question") or item.get("prompt") or "\n".join(item["turns"]))
        for path in sorted((DATA / "benchmarks").glob("*.jsonl"))
        for item in read_jsonl(path)
    ]
    return decontamination.BenchmarkNgrams(texts)


def leaks() -> dict[str, str]:
    items = read_jsonl(DATA / "benchmarks" / "multiple_choice.jsonl")
    return {
        item["id"]: item["question"]
        for item in items
        if len(decontamination.tokens(item["question"])) >= decontamination.SHORTEST_SENTENCE
    }


@pytest.mark.parametrize("change", ["verbatim", "script", "punctuation", "embedded", "answer"])
def test_planted_leaks_are_found(change: str) -> None:
    """A benchmark item in the other script, with other punctuation or inside an answer is still a leak."""
    grams = benchmark()
    for item, leak in leaks().items():
        swapped = {
            "verbatim": leak,
            "script": converter("t2s").convert(leak),
            "punctuation": re.sub("[，、。？「」]", " / ", leak),
            "embedded": f"老師問了這一題：{leak} 請作答。",
            "answer": leak,
        }[change]
        planted = row("請出一題考題", f"好的：{swapped}") if change == "answer" else row(swapped, "答案是第一個選項。")
        kept, rejects = decontamination.contaminated([planted], grams)
        assert not kept and rejects[0]["rule"] == "contamination", leak
        assert f"item={item} span=" in rejects[0]["detail"]


def test_every_bundled_question_is_found_alone() -> None:
    """A short question is indexed with its options; a row that asks it without them is the same leak."""
    grams = decontamination.BenchmarkNgrams(benchmark_texts().items())
    asked = {item: text.partition("\n")[0] for item, text in benchmark_texts().items()}
    assert len(asked) > 200
    for item, text in asked.items():
        for written in (text, converter("t2s").convert(text), text.replace("？", "")):
            kept, _ = decontamination.contaminated([row(written, "答案是第一個選項。")], grams)
            assert not kept, (item, written)


def test_a_first_line_of_many_items_is_no_question() -> None:
    """An instruction that opens every item is the benchmark's template: who asks it has not seen an item."""
    items = [(f"q{i}", f"請回答下列問題。\n{chr(0x6000 + i) * 20}") for i in range(8)]
    assert decontamination.BenchmarkNgrams(items).match("請回答下列問題。") is None


def test_no_false_hit_on_the_corpus() -> None:
    """The filter must not throw away articles that only share common phrases with a benchmark."""
    rows = [row("請介紹這個主題。", p) for p in paragraphs(100)]
    _, rejects = decontamination.contaminated(rows, benchmark())
    assert not rejects, [r["detail"] for r in rejects]


def test_english_words_are_the_unit_and_templates_do_not_count() -> None:
    """Thirteen Latin letters are two words, no leak; a stem shared by many items is the exam's template."""
    stem = "下列關於臺灣歷史的敘述何者最為正確"
    items = [(f"q{i}", f"{stem}：第{i}題") for i in range(8)]
    items += [("en", "A train leaves the station at nine and travels north at sixty miles per hour until noon.")]
    grams = decontamination.BenchmarkNgrams(items)
    assert grams.match("The station at nine and travels north is closed.") is None
    assert grams.match(stem + "？請說明。") is None
    found = grams.match("Tom: a train leaves the station at nine, and travels north at sixty miles per hour!")
    assert found == ("en", "a train leaves the station at nine and travels north at sixty miles per hour")


# --- tags, funnel ---------------------------------------------------------------------------------------


def test_rule_tags() -> None:
    """Selection by category needs a task, a topic and a length on every row."""
    tagged = [{**r, "tags": tags.rule_tags({**r, "meta": json.dumps({"topic": "food"})})} for r in good_rows()]
    first = {r["messages"][0]["content"]: r["tags"][0] for r in tagged}
    assert first["為什麼海水是鹹的？"] == "reason" and first["請比較高鐵與台鐵。"] == "comparison"
    assert (
        first["小明有15顆糖，分給3位同學，每人幾顆？"] == "maths" and first["請幫我寫一封向客戶致歉的信。"] == "writing"
    )
    assert first["What is photosynthesis?"] == "definition" and first["怎麼煮出好吃的滷肉飯？"] == "procedure"
    assert all("topic food" in r["tags"] and r["tags"][-1].endswith(" answer") for r in tagged)


def test_funnel_accounts_for_every_row() -> None:
    """A filter that loses rows must fail the check, not pass for a strict one."""
    rows, account = (
        good_rows() + [row("台灣最高的山？", reply) for reply in BAD["refusal"] + BAD["truncated"]],
        funnel.Funnel(),
    )
    for stage, step in (("language", language.by_language), ("quality", quality_rules.by_quality)):
        before = rows
        rows, rejects = step(before)
        account.add(stage, before, rows, rejects)
    account.check()
    assert sum(e["rows_in"] - e["rows_out"] for e in account.rows()) == sum(e["rows"] for e in account.rules())
    assert {"stage": "quality", "source": "rag", "rule": "truncated", "rows": 2} in account.rules()
    account.add("lossy", rows, rows[1:], [])
    with pytest.raises(AssertionError, match="lossy/rag"):
        account.check()


def test_funnel_sees_rows_lost_between_stages() -> None:
    """Rows dropped between two filters (a wrong join) must be found too."""
    account, rows = funnel.Funnel(), good_rows()
    account.add("one", rows, rows, [])
    account.add("two", rows[1:], rows[1:], [])
    with pytest.raises(AssertionError, match="two/rag: 6 in, 7 left"):
        account.check()


def test_filters_account_for_every_row_and_show_any_reject() -> None:
    """A reject of many turns, or of none, is shown like any other; an empty account is no error."""
    many = row("你好", "很抱歉，我無法回答這個問題。")
    many["messages"] = [{"role": "system", "content": "助理"}, *many["messages"], *good_rows()[0]["messages"]]
    work = filters.Filters([*good_rows(), many, row("在嗎？", "")])
    assert work.examples() == [] and work.rule_lines() == []
    assert [item["rule"] for item in work.apply("quality", quality_rules.by_quality)] == ["refusal", "empty"]
    assert work.examples()[0].splitlines()[1:] == ["  你好", "  很抱歉，我無法回答這個問題。"]
    assert work.rule_lines() == ["   1 rag       quality: empty", "   1 rag       quality: refusal"]
    work.check()
    work.rejects.pop()
    with pytest.raises(AssertionError, match="18 rows came in, 17 are kept or rejected"):
        work.check()


def test_filters_do_the_same_on_disk_as_in_memory() -> None:
    """What is held as a list and what lies in a file must go the same way, to the last reject."""
    rng = random.Random(5)
    rows = [*good_rows(), *(row("台灣最高的山？", reply) for found in BAD.values() for reply in found)]
    rows += [row("請說明。", edited(body, n, rng)) for body in paragraphs(8) for n in (0, 2)] + good_rows()[:3]
    rng.shuffle(rows)
    steps = (language.by_language, quality_rules.by_quality, duplicates.exact_duplicates, duplicates.near_duplicates)
    alike = [filters.Filters(rows), filters.Filters(stored(rows, CONVERSATION))]
    for work in alike:
        for step in (*steps, lambda found: decontamination.contaminated(found, benchmark())):
            work.apply(str(step), step)
        vectors = np.tile(np.eye(2, dtype=np.float32), (len(work.rows), 1))[: len(work.rows)]
        work.apply("semantic", lambda found, vectors=vectors: semantic_duplicates.semantic_duplicates(found, vectors))
        work.check()
    assert list(alike[1].rows) == alike[0].rows and alike[1].rejects == alike[0].rejects and len(rows) > 60
    assert {"exact_duplicate", "near_duplicate", "semantic_duplicate"} <= {item["rule"] for item in alike[0].rejects}


def test_looks_at_ranked_rows_of_any_number() -> None:
    """No row, one row, or rows of many turns: the notebook shows what there is, none twice."""
    rows = [row(f"問{i}", "答\n案", score=float(i), tags=["a", str(i % 2)]) for i in range(7)]
    assert filters.ranked_lines([]) == []
    assert [len(filters.ranked_lines(rows[:n])) for n in range(7)] == [0, 1, 2, 3, 4, 5, 5]
    assert filters.ranked_lines(rows)[0] == "+6.00 ['a', '0'] 問6 → 答 案…"
    assert filters.ranked_lines(rows)[-1].startswith("+1.00")


def test_written_rows_come_from_the_manifests() -> None:
    """The funnel begins with what was asked of the model, not with what it delivered."""
    documents, maths = {"metrics": {"written": {"rag": [9, 4]}}}, {"counts": {"in": 5, "out": 1}}
    assert filters.written_rows(documents, maths) == [
        {"stage": "written", "source": "rag", "rows_in": 9, "rows_out": 4},
        {"stage": "written", "source": "math", "rows_in": 5, "rows_out": 1},
    ]
