"""Open tags of step 04: one vocabulary of what a model names, every written form accounted for."""

import json
import random
from collections import Counter

import numpy as np
import pytest
from scripted import Scripted, last, text

from kyara_utils.curation.open_tags import SHOWN, read_tags, shortened, tag_by_model
from kyara_utils.curation.tag_merging import merge_tags, tag_measures
from kyara_utils.curation.tags import tag_form


def apart(names: list[str]) -> np.ndarray:
    """An embedder for which no two tags mean the same."""
    return np.eye(len(names), dtype=np.float32)


def merged(lists: list[list[str]], alpha: int = 1, embed=apart, similarity: float = 0.97) -> list[list[str]]:
    return merge_tags(lists, embed, alpha, similarity)[0]


def by(lists: list[list[str]], **options) -> dict[str, tuple[str, str]]:
    given = {"embed": apart, "alpha": 1, "similarity": 0.97} | options
    return {row["written"]: (row["tag"], row["by"]) for row in merge_tags(lists, **given)[1]}


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Data-Analysis", "data analysis"),
        ("data_analysis!", "data analysis"),
        ("C++", "c++"),
        ("Ｃ＋＋", "c++"),
        ("C#", "c#"),
        (".NET", ".net"),
        ("Node.js", "node js"),
        ("GPT-3.5", "gpt 3.5"),
        ("#標籤", "標籤"),
        ("資訊+通訊", "資訊 通訊"),
        ("「拼字檢查」", "拼字檢查"),
        ("1. 加法", "1 加法"),
        ("...", ""),
        ("…", ""),
    ],
)
def test_tag_form(written: str, shown: str) -> None:
    """Marks are noise around a word and the name itself in C++, C# and .NET."""
    assert tag_form(written) == shown


def test_names_of_languages_stay_apart_and_scripts_meet() -> None:
    """C++, C# and C are three languages, 资讯 and 資訊 one word; the tag that most rows bear is the name."""
    lists = [["C++"], ["c ++", "C"], ["C#"], ["资讯"], ["資訊"], ["資訊", "资讯"], ["Data-Analysis"], ["data analysis"]]
    same = lambda names: np.ones((len(names), 1), np.float32)  # noqa: E731 - an embedder that tells nothing apart
    assert merged(lists)[:6] == [["c++"], ["c"], ["c#"], ["資訊"], ["資訊"], ["資訊"]]
    assert merged(lists)[6:] == [["data analysis"]] * 2
    found = by(lists, embed=same)
    assert {found[name][0] for name in ("C++", "C", "C#")} == {"c++", "c#", "資訊"}, "marks keep them apart"


def test_rare_tags_go_after_their_spellings_add_up() -> None:
    """One row of each script is two rows of the tag; what no other row says is noise."""
    lists = [["資訊"], ["资讯", "Rare!"], ["once"], [" "], ["!!"]]
    assert merged(lists, alpha=2) == [["資訊"], ["資訊"], [], [], []]
    assert by(lists, alpha=2) == {
        "資訊": ("資訊", "kept"), "资讯": ("資訊", "spelling"), "Rare!": ("", "rare"), "once": ("", "rare"),
        " ": ("", "empty"), "!!": ("", "empty"),
    }  # fmt: skip


def test_meaning_goes_to_the_more_frequent_and_never_along_a_chain() -> None:
    """DBSCAN would join a to c through b; here each tag is itself close to the name it takes."""
    angles = {"a": 0.0, "b": 0.2, "c": 0.4, "d": 1.5, "2023年": 1.5}
    embed = lambda names: np.array([[np.cos(angles[n]), np.sin(angles[n])] for n in names], np.float32)  # noqa: E731
    lists = [["a"]] * 5 + [["b"]] * 4 + [["c"]] * 3 + [["d"]] * 2 + [["2023年"]]
    found = by(lists, embed=embed, similarity=float(np.cos(0.25)))
    assert found == {
        "a": ("a", "kept"), "b": ("a", "meaning"), "c": ("c", "kept"), "d": ("d", "kept"), "2023年": ("2023年", "kept"),
    }  # fmt: skip


def test_association_joins_what_always_comes_together() -> None:
    """Two halves of one expression are one tag; a special topic is not its general one, though it always implies it."""
    lists = [["數學", "計算"]] * 6 + [["數學", "計算", "二次方程式"]] * 4 + [["寫作", "詩"]] * 3 + [["寫作"]] * 3
    assert by(lists) == {
        "數學": ("數學", "kept"), "計算": ("數學", "association"),
        "二次方程式": ("二次方程式", "kept"), "寫作": ("寫作", "kept"), "詩": ("詩", "kept"),
    }  # fmt: skip
    assert by([["甲", "乙"]])["乙"] == ("乙", "kept"), "one row is no evidence"
    assert set(merged([["甲", "乙", "丙"]] * 9)[0]) == {merged([["甲", "乙", "丙"]] * 9)[0][0]}, (
        "merged again and again"
    )


def test_merging_does_not_depend_on_order_and_accounts_for_every_form() -> None:
    """A reshuffled set must give the same tags; each form has one line, with as many rows as bear it."""
    rng = random.Random(0)
    forms = ["C++", "c++", "資訊", "资讯", "Data-Analysis", "data analysis", "詩", "寫作", "數學", "計算", "x.y"]
    lists = [rng.sample(forms, rng.randrange(5)) for _ in range(200)]
    first, account = merge_tags(lists, apart, 2, 0.97)
    order = rng.sample(range(200), 200)
    again, same = merge_tags([lists[at] for at in order], apart, 2, 0.97)
    assert account == same and again == [first[at] for at in order]
    assert {row["written"]: row["rows"] for row in account} == Counter(tag for own in lists for tag in own)
    assert all(len(own) == len(set(own)) for own in first)


def test_measures_are_instags() -> None:
    """Diversity is the share of all tags that a set covers, complexity the tags of a row."""
    rows = [{"tags": list(tags)} for tags in ("ab", "c", "", "abcd")]
    assert tag_measures(rows, rows[:2]) == {"tags": 4, "coverage": 0.75, "complexity": 1.75, "refined_complexity": 1.5}
    assert tag_measures([], [])["coverage"] == 0.0


def conversation(*queries: str) -> dict:
    messages = [m for q in queries for m in ({"role": "user", "content": q}, {"role": "assistant", "content": "好。"})]
    return {"id": queries[0], "messages": messages, "source": "rag", "meta": "{}", "call_ids": ["earlier"]}


def as_json(*tags: str) -> str:
    return json.dumps({"tags": [{"tag": tag, "explanation": "因為"} for tag in tags]}, ensure_ascii=False)


def test_a_chat_model_tags_every_query_in_json() -> None:
    """Each query of a session is asked about by itself; the row bears the tags of all, and the calls behind them."""
    client = Scripted(
        lambda request: text(as_json("氣象", last(request).split("\n")[1][:2])), dialect="chat", style="full"
    )
    rows = [conversation("颱風為何轉彎？", "雨怎麼下的？"), conversation("玉山多高？")]
    tagged, account = tag_by_model(client, rows, apart)
    assert [row["tags"] for row in tagged] == [["reason", "氣象", "颱風", "雨怎"], ["quantity", "氣象", "玉山"]]
    assert [len(row["call_ids"]) for row in tagged] == [3, 2] and len(client.asked) == 3 == len(
        set(map(last, client.asked))
    )
    assert client.asked[0].schema["required"] == ["tags"] and "颱風" in last(client.asked[0])
    assert {row["written"]: row["rows"] for row in account} == {"氣象": 2, "颱風": 1, "雨怎": 1, "玉山": 1}


def test_a_base_model_continues_a_list() -> None:
    """The embedded base model writes one line; no schema, at most three tags."""
    client = Scripted(lambda request: text("物理、原理 、說明、又一個"))
    (row,), _ = tag_by_model(client, [conversation("為什麼\n下雨？")], apart)
    assert row["tags"] == ["reason", "物理", "原理", "說明"] and client.asked[0].schema is None
    assert "為什麼 下雨？" in last(client.asked[0])


@pytest.mark.parametrize(
    "answer", ["", "[]", "{}", '{"tags": 3}', '{"tags": ["a", {"tag": 7}, {"tag": " "}]}', '{"tags": [{"tag"', "null"]
)
def test_an_answer_that_cannot_be_read_brings_no_tag(answer: str) -> None:
    """Whatever a model writes, a row keeps its task and the run goes on."""
    assert read_tags(answer) == []
    (row,), account = tag_by_model(Scripted(lambda request: text(answer)), [conversation("比較貓和狗")], apart)
    assert row["tags"] == ["comparison"] and account == []


def test_a_long_query_is_shown_by_its_ends() -> None:
    """What is asked stands before or behind the documents; the model's context is smaller than they are."""
    asked = shortened("請摘要：" + "文" * 9000 + "用三句話。")
    assert len(asked) <= SHOWN + 3 and asked.startswith("請摘要：") and asked.endswith("用三句話。")
    assert shortened("短") == "短"
