"""Simplified characters and mainland terms in Traditional text: found, and converted without harm beside them."""

import pytest
from scripted import Scripted, text

from kyara_utils.llm import Request
from kyara_utils.runs import KyaraError
from kyara_utils.synthesis.checks import request_rule
from kyara_utils.synthesis.script_repair import ScriptRepair
from kyara_utils.synthesis.styles import BRIEF
from kyara_utils.text.script_leaks import english_word, leaks, mainland_term, repair, simplified_only


@pytest.mark.parametrize(
    ("written", "repaired"),
    [
        ("什么是電晶體？", "什麼是電晶體？"),
        ("電路的设计要考慮电压。", "電路的設計要考慮電壓。"),
        ("這個軟件可以播放視頻。", "這個軟體可以播放影片。"),
        ("里長說，頭发要剪短，才能发現問題。", "里長說，頭髮要剪短，才能發現問題。"),
        ("光合作用是植物制造养分的过程。", "光合作用是植物製造養分的過程。"),
        ("玉山很高。这种软件的信息很多。", "玉山很高。這種軟體的資訊很多。"),
        ("里長干預了這件事，皇后在台中。", "里長干預了這件事，皇后在台中。"),
    ],
)
def test_leaking_words_are_converted_and_the_rest_is_left(written, repaired):
    """A table that starts from Simplified would make 裡長 and 幹預 of sound words beside a leak."""
    assert repair(written) == repaired and not leaks(repaired)
    assert leaks(written) is (written != repaired)


def test_sound_text_does_not_leak():
    """Taiwan writes 演算法, 信號 and 程序; names and short quotations may be in the other script."""
    for sound in (
        "演算法的程序與信號處理。",
        "他引用了「计算机」這個詞。",
        "信息素與電視頻道。",
        "皇后、太后與里長。",
        "公里與公升。",
    ):
        assert not leaks(sound), sound


def test_a_term_of_the_source_is_no_leak():
    """A document about 軟件園 must be answered in its own words."""
    assert mainland_term("中關村軟件園") == "軟件" and mainland_term("中關村軟件園", sources=["軟件園在北京"]) == ""
    assert mainland_term("軟件", language="en") == "" and simplified_only("```python\n# 设计\n```") == ""
    assert request_rule("這個軟件怎麼用？", "zh-Hant")[0] == "mainland_term"
    assert request_rule("玉山是什么山，為何這樣高？", "zh-Hant")[0] == "wrong_script"


def ask(mode: str, *said: str) -> tuple[ScriptRepair, list[str]]:
    answers = iter(said)
    client = ScriptRepair(Scripted(lambda request: text(next(answers)), dialect="chat"), mode)
    return client, [response.text for response in client.ask([Request([]) for _ in said])]


def test_the_leak_rate_is_counted_before_and_after():
    """The first thing asked of a teacher for a Taiwanese model."""
    client, texts = ask("convert", "什么？", "玉山很高。", "软件很好。", "雪山。")
    assert texts == ["什麼？", "玉山很高。", "軟體很好。", "雪山。"]
    report = client.report()
    assert (report["texts"], report["leaked"], report["leak_rate"], report["leak_rate_after"]) == (4, 2, 0.5, 0.0)
    assert len(client.converted) == 2 and client.model.name == "scripted"
    client, texts = ask("reject", "什么？", "玉山很高。")
    assert texts[0] == "什么？" and client.report()["leak_rate_after"] == 0.5


def test_english_runs_and_empty_runs_are_not_judged_and_a_wrong_mode_is_named():
    client = ScriptRepair(Scripted(lambda request: text("什么")), "convert", "en")
    assert client.ask([Request([])])[0].text == "什么" and client.report()["leak_rate"] == 0.0
    with pytest.raises(KyaraError, match="reject, convert"):
        ScriptRepair(Scripted(text), "mend")


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("Taiwan小吃業遇到的問題", "Taiwan"),
        ("什麼 animal被指為石虎的攻擊者？", "animal"),
        ("在所有地區都 available。", "available"),
        ("光合作用（photosynthesis）是製造養分的過程。", ""),
        ("以 iPhone 拍攝，溶液的 pH 值", ""), ("用`print`輸出", ""),
        ("寄到 someone@example.com", ""), ("請見 https://example.com/page", ""), ("動物 animal 在資料裡", ""),
    ],
)  # fmt: skip
def test_english_words_within_chinese_are_a_small_teachers_lapse(said, word):
    sources = ["資料寫到 animal 這個字"] if word == "" else []
    assert english_word(said, sources=sources) == word


def test_a_strong_teacher_means_its_english_words():
    said = "要怎麼用 pandas 讀取這份表格？"
    assert request_rule(said, "zh-Hant") == ("", "")
    assert request_rule(said, "zh-Hant", style=BRIEF) == ("english_word", "pandas")
