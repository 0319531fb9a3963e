"""Markdown and web pages as people write them: their text alone, and a row for what is taken off."""

import json
import re
from pathlib import Path

import pytest
from folders import HANT

from kyara_utils.knowledge.readers.block_text import text_of
from kyara_utils.knowledge.readers.folder import READERS, Document, first_documents, read_corpus
from kyara_utils.knowledge.readers.html_text import html_to_text, parse
from kyara_utils.knowledge.readers.markdown import read_markdown

ROOT = Path(__file__).resolve().parents[1]
ARTICLE = f"""---
# design_rationale:
title: '藍鵲：山林的寶石'
tags: [鳥]
---

> **30 秒概覽：**牠們很強悍[^1]。

{HANT}**重點：**共 97%，5*3*2=30，10<sup>9</sup>，List<String>，NT$100 到 NT$200。

![圖說](a.png)
<!-- TODO: 查證 -->

- 一
  - 二

| 年 | 人口 | 註 |
|----|------|----|
| 1900 |    | 甲[^註2] |

```py
# not a heading **x**
```

國家公園有：

- [[玉山國家公園]]
- [[太魯閣|太魯閣國家公園]]

**延伸閱讀**：

- [甲](http://a) — 說明
- [乙](http://b)

## 參考資料 / Sources

- [丙](http://c) — 說明

[^1]: [來源](http://d) — 說明
[^註2]: 另一個
"""


def test_markdown_gives_its_text_and_accounts_for_the_rest():
    """Front matter became the title, footnotes and link lists became chunks."""
    title, text, dropped = read_markdown(ARTICLE, "檔名")
    assert title == "藍鵲：山林的寶石"
    assert text.split("\n\n") == [
        "30 秒概覽：牠們很強悍。",
        HANT + "重點：共 97%，5*3*2=30，10⁹，List<String>，NT$100 到 NT$200。",
        "- 一\n  - 二",
        "| 年 | 人口 | 註 |\n| 1900 |  | 甲 |",
        "```\n# not a heading **x**\n```",
        "國家公園有：",
        "- 玉山國家公園\n- 太魯閣國家公園",
    ]
    counts = {rule: len(parts) for rule, parts in dropped.items()}
    assert counts == {"front_matter": 1, "footnotes": 2, "images": 1, "comments": 1, "reference_section": 2}
    assert "http://d" in str(dropped["footnotes"]) and "丙" in str(dropped["reference_section"])


def test_the_first_documents_come_with_their_rows(tmp_path):
    """A limit that counted rows of footnotes as well would end after a fifth of the documents asked for."""
    for n in range(3):
        (tmp_path / f"{n}.md").write_text(f"---\ntitle: {n}\n---\n{HANT}")
    kinds = [isinstance(item, Document) for item in first_documents(read_corpus(tmp_path), 2)]
    assert kinds == [True, False, True, False] and len(list(first_documents(read_corpus(tmp_path), 0))) == 6


TITLES = {
    "---\ntitle: 甲: 乙\ndate: [\n---\n\n內文": ("甲: 乙", "內文"),
    '+++\ntitle = "甲"\n+++\n內文': ("甲", "內文"),
    "---\n\n內文\n\n---\n\n後文": ("檔名", "內文\n\n後文"),
    "# 甲\n\n內文\n\n# 乙": ("甲", "內文\n\n# 乙"),
    "\ufeff---\r\ntitle: 甲\r\n---\r\n# 甲\r\n內文": ("甲", "內文"),
    "```\n# 甲\n```\n\n# 乙": ("乙", "```\n# 甲\n```"),
}


@pytest.mark.parametrize("source", TITLES)
def test_titles_come_from_front_matter_then_the_first_heading(source):
    """Front matter is YAML, nearly YAML or TOML; a rule at the start of a text is none of them."""
    assert read_markdown(source, "檔名")[:2] == TITLES[source]


MARKS = {
    "1. 一\n\n   續段\n\n2. 二\n   ```sh\n   ls\n   ```": "1. 一\n  續段\n2. 二\n```\nls\n```",
    ":::tip\n內容\n:::\n\n> [!NOTE] 標題\n> 內容": "內容\n\n標題\n內容",
    "[[_TOC_]]\n\n[連結][1]與註[^無]。\n\n[1]: http://a": "連結與註。",
    "價 `a**b` 與 $a_b*c*$": "價 a**b 與 $a_b*c*$",
    "天亮 [^3]。 [^4] 後來\n\n## 延伸閱讀（附連結）\n\n- [甲](http://a)\n\n[^3]: 註": "天亮。後來",
    "- [x] 完成": "- [x] 完成",
    "海風{{< figure src='a.png' >}}吹過沙灘。": "海風吹過沙灘。",
}


@pytest.mark.parametrize("source", MARKS)
def test_marks_of_markdowns_many_kinds(source):
    assert read_markdown(source)[1] == MARKS[source]


def test_a_section_of_prose_stays_whatever_its_heading():
    """A heading 註釋 may stand over pages of text."""
    prose = "## 註釋\n\n" + (HANT + "\n\n") * 8
    assert read_markdown(prose)[1].count(HANT) == 8 and "reference_section" not in read_markdown(prose)[2]


def test_lines_that_a_writer_broke_stay_lines_and_wrapped_ones_are_joined():
    """A poem is lost when its lines run together, a paragraph when it is cut at column eighty."""
    assert read_markdown("白日依山盡\n黃河入海流")[1] == "白日依山盡\n黃河入海流"
    assert read_markdown(f"{HANT[:40]}\n{HANT[40:]}")[1] == HANT


@pytest.mark.parametrize("source", ["> " * 3000 + "x", "- " * 3000 + "x", "[" * 50_000, "*" * 50_000, "<div>" * 5000])
def test_hostile_markdown_ends(source):
    try:
        assert isinstance(read_markdown(source)[1], str)
    except Exception as error:
        assert type(error).__name__ == "SkipDocument", error


def test_real_articles_lose_nothing_without_a_row():
    """Chinese characters of the source = those of title, text and parts taken off, but for addresses of links."""
    folder = next((p for p in (ROOT.parent / "shared", ROOT.parents[1] / "shared") if p.is_dir()), ROOT) / "corpora"
    articles = sorted((folder / "taiwan_md").rglob("*.md"))[::12]
    if not articles:
        pytest.skip("the articles are not on this machine")
    for path in articles:
        source = path.read_text(encoding="utf-8")
        title, text, dropped = read_markdown(source, path.stem)
        kept = re.sub(r"\W", "", title + text + "".join(part for parts in dropped.values() for part in parts))
        plain = re.sub(r"\]\([^)]*\)|\[\^[^\]]*\]|\[\[[^\]|]*\|", " ", source)
        lost = [run for run in re.findall(r"[\u4e00-\u9fff]{4,}", plain) if run not in kept]
        assert not lost, (path, lost[:5])
        assert "---" not in text and "[^" not in text and "](" not in text and "**" not in text


# Pages

INLINE = {
    "10<sup>9</sup> 與 H<sub>2</sub>O": "10⁹ 與 H₂O",
    "x<sup>a,b</sup>，1<sup>st</sup>": "x^(a,b)，1st",
    '句子<sup><a href="#n">[1]</a></sup>。': "句子。",
    "<ruby>漢<rp>(</rp><rt>ㄏㄢˋ</rt><rp>)</rp></ruby>": "漢(ㄏㄢˋ)",
    "甲<br>乙": "甲\n乙",
    "一行\n  換行": "一行換行",
    "<math alttext='x^2'><mi>x</mi></math>": "$x^2$",
    "<img alt='圖'>甲": "甲",
}


@pytest.mark.parametrize("markup", INLINE)
def test_inline_markup_keeps_its_meaning(markup):
    """10⁹ became 109."""
    assert text_of(parse(f"<html><body><p>{markup}</p></body></html>").find("body")) == INLINE[markup]


def test_tables_keep_their_columns_and_lists_their_items():
    """An empty cell shifted the row; a page without headings lost every list."""
    table = "<table><tr><th>年<th>人口<th>註</tr><tr><td rowspan=2>1900<td><td>甲</tr><tr><td colspan=2>無</tr></table>"
    lists = "<ol start=3><li>三<ul><li>內</ul><li>四</ol><dl><dt>詞<dd>義</dl>"
    _, text = html_to_text(f"<html><body><p>{HANT}</p>{table}{lists}</body></html>")
    rows = "| 年 | 人口 | 註 |\n| 1900 |  | 甲 |\n| 1900 | 無 |  |"
    assert text == f"{HANT}\n\n{rows}\n\n3. 三\n  - 內\n4. 四\n\n- 詞\n  義"


@pytest.mark.parametrize("markup", ["<ul><li>甲<li>乙</ul>", "<table><tr><td>甲<td>乙</table>", "<pre>甲\n  乙</pre>"])
def test_a_page_of_one_block_keeps_its_shape(markup):
    shapes = {"u": "- 甲\n- 乙", "t": "| 甲 | 乙 |", "p": "```\n甲\n  乙\n```"}
    assert html_to_text(f"<html><body>{markup}</body></html>")[1] == shapes[markup[1]]


def test_keys_and_hidden_variants_are_told_apart():
    """Of Command+T and F11 a script shows one; together they read Command+TF11."""
    switch = "<span><span hidden>Command+T</span><span hidden>F11</span></span>"
    _, text = html_to_text(f"<html><body><p>{HANT}按 {switch} 或 <kbd>Ctrl</kbd><kbd>C</kbd>。</p></body></html>")
    assert text == f"{HANT}按 Command+T / F11 或 Ctrl C。"


def test_what_was_replaced_does_not_touch_its_replacement():
    """Of a price of 80 instead of 100 a page made 10080."""
    _, text = html_to_text(f"<title>甲</title><p>{HANT}原價<del>100</del><ins>80</ins>元，<s>舊</s>字。</p>")
    assert text == f"{HANT}原價80元，舊字。"


def test_what_most_pages_share_is_dropped_and_counted(tmp_path):
    """The name of the site, a breadcrumb and a footer opened every document and reached every chunk."""
    page = (
        "<html><head><title>第{n}頁 - 站名</title></head><body><div>站名說明</div><div>首頁 &gt; 文件</div>"
        "<h2>範例</h2><p>{n}{text}</p><h2>參數</h2><ul><li>第{n}項</ul><div>版權所有 某某公司</div></body></html>"
    )
    for n in range(6):
        (tmp_path / f"{n}.html").write_text(page.format(n=n, text=HANT[n:] * 2))
    items = list(read_corpus(tmp_path))
    first = items[0]
    assert first.title == "第0頁" and first.text == f"## 範例\n\n0{HANT * 2}\n\n## 參數\n\n- 第0項"
    rows = {json.loads(i["row"])["dropped"][0]: i for i in items if isinstance(i, dict)}
    assert set(rows) == {"站名說明", "首頁 > 文件", "版權所有 某某公司", "站名"}
    assert {i["rule"] for i in rows.values()} == {"repeated_line"} and "6 times" in rows["站名說明"]["detail"]


def test_a_footer_is_never_the_article():
    """On short pages the debug block in the footer was taken for the text."""
    footer = f"<footer><div class='debug'><h3>Help content debug info:</h3><p>{HANT * 3}</p></div></footer>"
    page = f"<html><body><div><h1>樣式</h1><p>短短的說明。</p></div>{footer}</body></html>"
    assert html_to_text(page) == ("樣式", "短短的說明。")


# The page for newcomers


def test_the_example_of_the_documentation_runs(tmp_path, monkeypatch):
    """A page that no test executes is true on the day it was written."""
    page = (ROOT / "docs" / "add-a-reader.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "..." not in block]
    monkeypatch.setitem(READERS, ".srt", None)  # so that it is taken out again
    exec("\n".join(blocks), {})  # our own page
    lines = "".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n第{n}句：{HANT}\n\n" for n in (1, 2))
    (tmp_path / "對白.srt").write_text(lines + "3\n00:00:03,000 --> 00:00:03,900\n[掌聲]\n", encoding="big5")
    document, row = read_corpus(tmp_path)
    assert isinstance(document, Document) and document.title == "對白"
    assert document.text == f"第1句：{HANT}\n第2句：{HANT}" and row["rule"] == "sounds"
