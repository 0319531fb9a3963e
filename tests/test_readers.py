"""Every format, encoding and fault of a folder of files: documents out, or a reject row that says why not."""

import bz2
import csv
import gzip
import io
import json
import re
from pathlib import Path

import pytest
from folders import HANS, HANT, write

from kyara_utils.knowledge.readers import documents, pages, row_files, texts
from kyara_utils.knowledge.readers.encodings import decode, detect
from kyara_utils.knowledge.readers.folder import Document, read_corpus
from kyara_utils.knowledge.readers.hub import parse_source
from kyara_utils.knowledge.readers.markdown import read_markdown
from kyara_utils.knowledge.readers.wiki_markup import wiki_text
from kyara_utils.runs.errors import KyaraError
from kyara_utils.text.conversion import title_to_reading, to_reading
from kyara_utils.text.normalise import count_scripts, language, script_of, search_text


def test_every_format_gives_title_text_and_relative_path(tmp_path):
    """A format that is skipped in silence would leave holes in the corpus."""
    page = (
        f"<html><head><title>網頁</title></head><body><nav>選單</nav><article><h2>小節</h2><p>{HANT}</p>"
        f"<p>{HANT[::-1]}</p></article></body></html>"
    )
    lines = "\n".join(json.dumps({"title": f"列{n}", "text": f"{n}{HANT}"}) for n in (1, 2))
    write(tmp_path, {"b/c.md": f"# 書名\n\n{HANT}", "a.txt": HANT, "page.HTML": page, "rows.jsonl": lines})
    found = list(read_corpus(tmp_path))
    assert [(d.path, d.title) for d in found] == [
        ("a.txt", "a"),
        ("b/c.md", "書名"),
        ("page.HTML", "網頁"),
        ("rows.jsonl#1", "列1"),
        ("rows.jsonl#2", "列2"),
    ]
    assert all(HANT in d.text and re.fullmatch(r"doc_[0-9a-f]{16}", d.id) for d in found)
    assert "## 小節" in found[2].text and "選單" not in found[2].text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "big5", "cp950", "gb18030"])
def test_encodings_are_recognised(tmp_path, encoding):
    """A Big5 page read as UTF-8 or GB18030 becomes nonsense that no later filter explains."""
    text = (HANS if encoding == "gb18030" else HANT) * 3
    row = json.dumps({"title": "列", "text": text}, ensure_ascii=False)
    write(tmp_path, {"a.txt": text.encode(encoding), "b.jsonl": f"{row}\n".encode(encoding)})
    assert [d.text for d in read_corpus(tmp_path)] == [text, text]


def test_unreadable_files_give_a_reject_row_each(tmp_path):
    """A bad file must neither stop the run nor vanish from the counts."""
    write(
        tmp_path,
        {
            "a_empty.txt": b" \n",
            "b_binary.txt": bytes(range(256)) * 8,
            "c_short.md": "# 題\n\n太短",
            "d.txt": HANT,
            "e_bad.html": "<html><body></body></html>",
            "e_head.csv": "title,text\n",
            "f.jsonl": f'{{"text": "{HANT}"}}\nnot json\n{{"text": 1}}\n',
            "g_mixed.jsonl": f'{{"text": "{HANT}"}}\n'.encode() + b"\xff\xfe\xfa{\n",
            "picture.png": b"\x89PNG",
            ".hidden.txt": HANT,
        },
    )
    items = list(read_corpus(tmp_path))
    rejects = [(json.loads(r["row"])["path"], r["rule"]) for r in items if isinstance(r, dict)]
    assert rejects.pop(0) == (".hidden.txt", "hidden") and rejects.pop() == ("picture.png", "file_type")
    assert rejects[:4] == [
        ("a_empty.txt", "empty"),
        ("b_binary.txt", "binary"),
        ("c_short.md", "too_short"),
        ("e_bad.html", "extraction_failed"),
    ]
    assert rejects.pop(4) == ("e_head.csv", "empty")
    assert rejects[4:6] == [("f.jsonl#2", "extraction_failed"), ("f.jsonl#3", "extraction_failed")]
    assert rejects[6][0].startswith("g_mixed.jsonl") and rejects[6][1] == "encoding"
    assert {r["step"] for r in items if isinstance(r, dict)} == {"01_corpus_indexing"}
    assert [d.path for d in items if isinstance(d, Document)][:2] == ["d.txt", "f.jsonl#1"]


def test_folder_without_text_names_itself_and_the_types(tmp_path):
    """An empty corpus must fail here, not as an empty index three steps later."""
    write(tmp_path, {"a.png": b"x"})
    with pytest.raises(KyaraError, match=rf"{re.escape(str(tmp_path))}.*\.jsonl"):
        list(read_corpus(tmp_path))
    with pytest.raises(KyaraError, match="does not exist"):
        next(read_corpus(tmp_path / "nowhere"))


def test_reading_is_lazy(tmp_path):
    """A corpus larger than memory must be readable: nothing is opened ahead of what is asked for."""
    write(tmp_path, {f"{n}.txt": HANT + str(n) for n in range(3)})
    items = read_corpus(tmp_path)
    next(items)
    (tmp_path / "1.txt").write_text(HANS)
    assert next(items).text == HANS


def test_manual_page_keeps_headings_code_and_tables(tmp_path):
    """DocBook pages lose their headings and the lines of code in lists to a news extractor."""
    section = (
        '<div class="section"><div class="titlepage"><div><div><h2 class="title"><a id="x{n}"></a>{n}. 套件'
        "</h2></div></div></div><p>{text}</p><ul><li><p>安裝</p>"
        "<pre>sudo apt-get update\n# comment {n}\n</pre></li></ul>"
        "<table><tr><td></td><th>注意</th></tr><tr><td></td><td>zh_TW 要先\n設定</td></tr></table></div>"
    )
    body = "".join(section.format(n=n, text=f"{n}{HANT}") for n in range(1, 6))
    head = '<html><head><title>手冊</title></head><body><div class="navheader">下一頁</div>'
    write(tmp_path, {"a.html": f'{head}<div class="chapter">{body}</div></body></html>'})
    text = next(read_corpus(tmp_path)).text
    assert re.findall(r"(?m)^## (.*)", text) == [f"{n}. 套件" for n in range(1, 6)]
    assert text.count("```\nsudo apt-get update\n# comment") == 5 and text.count("```") == 10
    assert "下一頁" not in text and "注意\nzh_TW 要先設定" in text


# Script and search form


def test_scripts_are_told_apart_by_their_characters():
    """The language column decides what the filters keep."""
    assert script_of(HANT) == "zh-Hant" and script_of(HANS) == "zh-Hans"
    assert script_of("台北的里長後來干涉此事") == "zh-Hant"
    assert script_of("The quick brown fox jumps over the lazy dog.") == "en"
    assert script_of(HANT + HANS) == "mixed"
    assert script_of("中文字", default="zh-Hans") == "zh-Hans"


def test_japanese_is_no_chinese():
    """広島県 holds no kana and 経済 differs from 經濟 by a stroke; a quoted song title makes no text Japanese."""
    for text in ("広島県", "日本経済の発展", "発売済", "「さくら」という名前"):
        assert script_of(text) == "mixed", text
    assert script_of("畫面顯示「ありがとう」三個字，觀眾都笑了。") == "zh-Hant"
    assert script_of("他出生於廣島縣，研究經濟。") == "zh-Hant" and search_text("看著") == search_text("看着")


def test_search_form_makes_both_scripts_meet():
    """Without folding, a Simplified question shares no term with a Traditional document."""
    assert search_text("臺灣ＡＢＣ") == search_text("台湾abc") == "台湾abc"


# Formats


def test_tables_and_compressed_files_are_read(tmp_path):
    """Corpora arrive as CSV and Parquet as often as as text, and mostly compressed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"title": f"列{n}", "text": f"{n}{HANT}", "n": n} for n in (1, 2)]
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, ["n", "title", "text"])
    writer.writeheader()
    writer.writerows(rows)
    write(tmp_path, {
        "a.csv": sheet.getvalue(), "b.txt.gz": gzip.compress(HANT.encode("cp950")),
        "c.jsonl.bz2": bz2.compress("\n".join(map(json.dumps, rows)).encode()),
    })  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    found = list(read_corpus(tmp_path))
    assert [d.path for d in found] == ["a.csv#1", "a.csv#2", "b.txt.gz", "c.jsonl.bz2#1", "c.jsonl.bz2#2"] + [
        "d.parquet#1",
        "d.parquet#2",
    ]
    assert [d.title for d in found] == ["列1", "列2", "b", "列1", "列2", "列1", "列2"]
    assert len({d.text for d in found}) == 3 and all(HANT in d.text for d in found)


def test_text_field_is_the_readers_choice(tmp_path):
    """Every second dataset calls its text body, content or article."""
    write(tmp_path, {"a.jsonl": json.dumps({"body": HANT}), "b.csv": f"id,body\n1,{HANT}\n"})
    assert [d.text for d in read_corpus(tmp_path, text_field="body")] == [HANT, HANT]
    write(tmp_path, {"c.txt": HANT})
    details = [item["detail"] for item in read_corpus(tmp_path) if isinstance(item, dict)]
    assert len(details) == 2 and '"text"' in details[0] and "id, body" in details[1]


def test_damaged_files_give_a_reject_row_and_keep_what_came_before(tmp_path):
    """A download that broke off must neither stop the run nor throw away its readable half."""
    rows = "\n".join(json.dumps({"text": f"{n} {HANT[: n % 20 + 20]}{n * 7919**3 % 10**9}" * 3}) for n in range(3000))
    packed = gzip.compress(rows.encode())
    write(
        tmp_path, {"a.jsonl.gz": packed[: len(packed) // 2], "b.parquet": b"PAR1 is not enough", "c.txt.gz": b"no gzip"}
    )
    write(tmp_path, {"d.xml.bz2": bz2.compress(b"<html>no dump</html>"), "e.csv": f'text\n"{HANT}\n', "f.txt": HANT})
    items = list(read_corpus(tmp_path))
    rules = {json.loads(i["row"])["path"]: i["rule"] for i in items if isinstance(i, dict)}
    assert rules == {
        "a.jsonl.gz": "damaged",
        "b.parquet": "damaged",
        "c.txt.gz": "damaged",
        "d.xml.bz2": "extraction_failed",
        "e.csv#1": "extraction_failed",
    }
    assert sum(isinstance(i, Document) and i.path.startswith("a.jsonl.gz#") for i in items) > 500


def test_a_single_line_of_megabytes_is_read_in_parts(tmp_path, monkeypatch):
    """A line longer than memory must become documents of bounded size, without losing a character."""
    monkeypatch.setattr(documents, "PART", 5000)
    monkeypatch.setattr(texts, "PART", 5000)
    monkeypatch.setattr(row_files, "LONGEST_ROW", 20_000)
    line = "".join(f"第{n}句，{HANT}" for n in range(500))
    write(tmp_path, {"a.txt": line, "b.jsonl": json.dumps({"text": line}) + f'\n{{"text": "{HANT}"}}\n'})
    write(tmp_path, {"c.jsonl": json.dumps({"text": line[:12_000]}, ensure_ascii=False)})
    items = list(read_corpus(tmp_path))
    parts = [d for d in items if isinstance(d, Document) and d.path.startswith("a.txt")]
    assert "".join(d.text for d in parts) == line and max(len(d.text) for d in parts) <= 5000
    assert [d.path for d in parts][:2] == ["a.txt", "a.txt#part2"] and all(d.text[-1] == "。" for d in parts)
    assert [(i["rule"], json.loads(i["row"])["path"]) for i in items if isinstance(i, dict)] == [
        ("too_large", "b.jsonl#1")
    ]
    assert "b.jsonl#2" in {d.path for d in items if isinstance(d, Document)}
    assert "".join(d.text for d in items if isinstance(d, Document) and d.path.startswith("c.")) == line[:12_000]
    write(tmp_path / "gap", {"a.txt": HANT + " " * 20_000 + HANS})
    assert [d.text for d in read_corpus(tmp_path / "gap")] == [HANT, HANS]
    assert read_markdown("# " + line)[0] == ""


def test_a_page_that_breaks_the_extractor_is_one_reject_row(tmp_path, monkeypatch):
    """Among thousands of pages one is always broken; the others must still be read."""
    good = f"<html><body><p>{HANT}</p><p>{HANT[::-1]}</p></body></html>"
    write(tmp_path, {"a.html": "<div>" * 5000 + HANT, "b.html": good, "c.html": b"<html><body>\0\1\2\3\4" * 9})
    items = {json.loads(i["row"])["path"] if isinstance(i, dict) else i.path: i for i in read_corpus(tmp_path)}
    assert len(items) == 3 and isinstance(items["b.html"], Document) and items["c.html"]["rule"] == "binary"

    def fails(markup):
        raise RecursionError(markup[:9])

    monkeypatch.setattr(pages, "html_to_text", fails)
    write(tmp_path, {"d.txt": HANT})
    rules = [i["rule"] for i in read_corpus(tmp_path) if isinstance(i, dict)]
    assert rules == ["extraction_failed", "extraction_failed", "binary"]


# Encodings


@pytest.mark.parametrize("encoding", ["cp950", "gb18030", "utf-16-le", "utf-16-be"])
def test_short_texts_of_the_corpus_are_recognised(encoding):
    """A paragraph is all there is in many old files; a guess between Big5 and GB18030 must be right."""
    texts = [d.text[60:160] for d in read_corpus("bundled") if isinstance(d, Document)]
    wrong = [
        text
        for text in texts
        if decode(text.encode(encoding, "ignore")) != text.encode(encoding, "ignore").decode(encoding)
    ]
    assert len(texts) > 100 and len(wrong) <= len(texts) // 100, wrong[:2]


@pytest.mark.parametrize("encoding", ["euc_kr", "euc_jp", "cp932"])
def test_neighbours_of_chinese_are_read_as_what_they_are(encoding):
    """EUC-KR bytes are frequent Chinese characters to GB18030: a Korean page became Chinese that nobody wrote."""
    korean = "대한민국의 수도는 서울이며 한강이 도시를 가로질러 흐른다. 많은 사람들이 그곳에서 일한다."
    japanese = "これは日本の首都についての記事です。多くの人がここで働いています。"
    text = korean if encoding == "euc_kr" else japanese
    assert decode(text.encode(encoding)) == text and script_of(text) != "zh-Hant"


def test_a_damaged_byte_costs_its_own_row(tmp_path):
    """One bad byte near the start turned a UTF-8 file into a reject as a whole."""
    rows = [json.dumps({"text": f"{n}{HANT}"}, ensure_ascii=False).encode() for n in range(30)]
    rows[3] = rows[3].replace("軟".encode(), b"\xe8\xbb")
    write(tmp_path, {"a.jsonl": b"\n".join(rows)})
    items = list(read_corpus(tmp_path))
    assert [i["rule"] for i in items if isinstance(i, dict)] == ["encoding"] and len(items) == 30


def test_nonsense_is_refused_not_decoded():
    """Bytes of no encoding must not become Chinese that nobody wrote."""
    noise = bytes((n * 7919 + n * n) % 256 for n in range(4000))
    for data in (noise, HANT.encode()[:60] + b"\xff\xfa" + HANT.encode() * 4, "é à ü ".encode("latin-1") * 20):
        with pytest.raises(documents.SkipDocument):
            decode(data)
    assert detect(HANT.encode()[:-1]) == "utf-8"


# Script, conversion


def test_script_names_what_the_characters_prove():
    """A chunk of Han characters that both scripts share must not count as evidence for one."""
    facts = {
        "你好中文": ("zh-Hant", "Hani"),
        HANT: ("zh-Hant", "Hant"),
        HANS: ("zh-Hans", "Hans"),
        "12 34": ("zh-Hant", "Zyyy"),
    }
    facts |= {
        "Plain English words.": ("en", "Latn"),
        "ひらがなとカタカナだけの文": ("mixed", "Zyyy"),
        "": ("zh-Hant", "Zyyy"),
    }
    counts = count_scripts(list(facts))
    assert [language(row) for row in counts.tolist()] == list(facts.values())


def test_conversion_changes_simplified_reading_text_only(tmp_path):
    """s2twp on Traditional text would turn 里長 into 裡長."""
    village = "里長帶著居民走到鄉公所後面的廣場，討論今年的豐年祭應該怎麼辦理才好，大家都說隨意就好。"
    write(tmp_path, {"a.txt": HANS, "b.txt": village})
    first, second = read_corpus(tmp_path, convert="s2twp")
    assert "軟體產業" in first.text and "晶片" in first.text and second.text == village
    assert [d.text for d in read_corpus(tmp_path)] == [HANS, village]
    with pytest.raises(KyaraError, match="s2twp"):
        to_reading(HANS, "s2xx")


def test_only_the_simplified_sentences_of_a_text_are_converted(tmp_path):
    """One quotation in Simplified characters must not turn 干預 into 幹預 and 姓于 into 姓於 around it."""
    ours, theirs = "外國不應干預臺灣的內政，姓于的議員在議場這樣說明。", "他说软件产业发展很快，在家里也能工作。"
    text = ours * 2 + theirs + "干净的水在这里。" + ours
    converted = to_reading(text, "s2twp")
    assert converted.startswith(ours * 2) and converted.endswith(ours)
    assert "軟體產業發展很快，在家裡也能工作。乾淨的水在這裡。" in converted
    assert title_to_reading("姓于", ours, "s2twp") == "姓于" and title_to_reading("面包", theirs, "s2twp") == "麵包"
    write(tmp_path, {"a/于.txt": ours * 2, "b/面包.txt": theirs * 3})
    assert [d.title for d in read_corpus(tmp_path, convert="s2twp")] == ["于", "麵包"]


def test_known_faults_of_the_table_are_corrected():
    """The pairs were written where OpenCC goes wrong: on them it must do much better, not on text at large."""
    from kyara_utils.text.normalise import converter

    lines = (Path(__file__).parent / "conversion_pairs.tsv").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t") for line in lines]
    wrong = [(to_reading(source, "s2twp"), right) for source, right in pairs if to_reading(source, "s2twp") != right]
    plain = sum(converter("s2twp").convert(source) == right for source, right in pairs)
    assert len(wrong) <= 1 and plain < len(pairs) // 2, wrong


# MediaWiki dumps


PAGE = (
    "<page><title>{title}</title><ns>{ns}</ns><id>{n}</id>{extra}"
    "<revision><text xml:space='preserve'>{text}</text></revision></page>"
)
MARKUP = (
    "{{Infobox|名稱=甲|值={{nested|乙}}}}\n'''臺灣'''是[[東亞]]的[[島嶼|島]]。[[File:a.jpg|thumb|圖說]]{{cite|丙}}"
    "它的人口有&lt;ref&gt;來源&lt;/ref&gt;兩千三百萬，面積三萬六千平方公里。-{zh-hans:软件;zh-hant:軟體;}-業很發達。\n"
    '\n{| class="wikitable"\n|+ 附表\n! 年 !! 人口\n|-\n| 1900 || style="x" | [[甲|三百萬]]\n|}\n__NOTOC__'
    "\n== 歷史 ==\n=== 早期 ===\n* 第一項，很久以前的事情。\n* 第二項[http://x.y 連結]。\n"
    "[[Category:國家]]\n[[分類:島]]"
)


def dump(pages):
    body = "".join(PAGE.format(**{"ns": 0, "extra": "", "n": n} | page) for n, page in enumerate(pages, 1))
    return f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/"><siteinfo/>{body}</mediawiki>'


def test_wiki_dump_gives_articles_and_accounts_for_other_pages(tmp_path):
    """Redirects and talk pages are most of a dump: left out, but counted."""
    pages = [
        {"title": "臺灣", "text": MARKUP},
        {"title": "台灣", "text": "#REDIRECT [[臺灣]]", "extra": "<redirect title='臺灣'/>"},
    ]
    pages += [
        {"title": "Talk:臺灣", "ns": 1, "text": HANT},
        {"title": "短", "text": "短"},
        {"title": "轉", "text": "#重定向 [[臺灣]]"},
    ]
    write(tmp_path, {"w.xml.bz2": bz2.compress(dump(pages).encode())})
    article, *rejects = read_corpus(tmp_path)
    assert (article.title, article.path) == ("臺灣", "w.xml.bz2#1")
    assert [r["rule"] for r in rejects] == ["redirect", "namespace", "too_short", "redirect"]
    assert article.text.startswith("臺灣是東亞的島。") and "軟體業很發達" in article.text
    assert "\n| 年 | 人口 |\n| 1900 | 三百萬 |\n" in article.text
    assert re.findall(r"(?m)^#+ .*", article.text) == ["## 歷史", "### 早期"]
    for gone in ("Infobox", "圖說", "來源", "國家", "分類", "丙", "乙", "{", "}", "[", "'''", "http", "style", "__"):
        assert gone not in article.text, gone


FACTS = (
    ("全縣共有{{formatnum:18}}個鄉鎮。", "全縣共有18個鄉鎮。"),
    ("全長{{convert|5|km|mi}}，山高{{Convert|1,200|to|1,500|m|ft}}。", "全長5 km，山高1,200–1,500 m。"),
    ("光速{{val|3.0|e=8|u=m/s}}，佔{{frac|1|2}}。", "光速3.0×10⁸ m/s，佔1/2。"),
    ("英語稱{{lang|en|Yilan}}，{{le|本地|foreign|顯示}}。", "英語稱Yilan，顯示。"),
    ("能量為<math>E=mc^2</math>，十億是10<sup>9</sup>，水是H<sub>2</sub>O。", "能量為$E=mc^2$，十億是10⁹，水是H₂O。"),
    ("-{zh-hans:软件-{zh-hant:乙;zh-hans:甲}-;zh-hant:軟體}-業。-{H|zh-tw:丙}-", "軟體業。"),
    ("位於{{coord|25|2|N|121|38|E|display=inline}}。{{ISBN}}{{sup}}", "位於25°2′N 121°38′E。"),
    ("重{{val|1.67|(21)|e=-27|u=kg}}，約{{nowrap|{{formatnum:{{lang|en|12}}}}}}個。", "重1.67(21)×10⁻²⁷ kg，約12個。"),
    ("-{zh-hans:a&nbsp;b;zh-tw:甲&nbsp;乙}-。", "甲 乙。"),
    (
        "<nowiki>{{甲}}</nowiki>是語法，高{{nts|3952}}{{0}}公尺，{{gaps|1|234|567}}人。",
        "{{甲}}是語法，高3952公尺，1234567人。",
    ),
    ("{{JPN}}與{{TWN}}。", "日本與中華民國。"),
)


@pytest.mark.parametrize(("markup", "text"), FACTS)
def test_a_value_in_wiki_markup_is_kept(markup, text):
    """全縣共有個鄉鎮 is what a reader makes of a template that it takes for decoration."""
    assert wiki_text(markup) == (text, [])


def test_no_hole_is_left_at_the_start_of_a_sentence():
    """Behind a full stop a template may be a note, or the subject of what follows."""
    text, gone = wiki_text("甲是縣。{{未知}}年成立。{{未知}}\n\n後來。{{未知}}人口多。")
    assert (text, gone) == ("甲是縣。\n\n後來。", ["{…}年成立。", "{…}人口多。"])


def test_a_sentence_with_an_unknown_template_goes_as_a_whole(tmp_path):
    """A fact with a hole must neither stay nor vanish without a row."""
    page = HANT + "全縣人口{{誰也不認得|5}}萬。面積很大。{{來源請求}}\n{{表格頭}}\n最後（{{不明}}）一句。"
    write(tmp_path, {"w.xml": dump([{"title": "甲", "text": page}])})
    article, row = read_corpus(tmp_path)
    assert article.text.split("\n")[0] == HANT + "面積很大。" and article.text.endswith("最後一句。")
    assert row["rule"] == "unknown_template" and "全縣人口{…}萬。" in row["row"]


def test_wiki_tables_keep_their_columns():
    """A population under the heading of the year is worse than none."""
    markup = "{|\n! 年 !! 人口 !! 附註\n|-\n| 1900 || || 甲\n|-\n| rowspan=2 | 乙 || 5 || 丙\n|-\n| 6 || 7\n|}"
    assert wiki_text(markup)[0].split("\n") == [
        "| 年 | 人口 | 附註 |",
        "| 1900 |  | 甲 |",
        "| 乙 | 5 | 丙 |",
        "| 乙 | 6 | 7 |",
    ]


def test_history_gives_the_newest_revision_and_a_control_character_costs_nothing(tmp_path):
    """A dump with history began with each page's stub; one bad character ended the whole reading."""
    revision = "<revision><timestamp>{}</timestamp><text>{}</text></revision>"
    texts = {"2020": "中" + HANT, "2024": "新\x01" + HANT, "2004": "舊&#2;" + HANT}
    revisions = "".join(revision.format(f"{year}-01-01T00:00:00Z", text) for year, text in texts.items())
    page = f"<page><title>甲</title><ns>0</ns><id>1</id>{revisions}</page>"
    other = PAGE.format(title="乙", ns=0, n=2, extra="", text=HANT)
    write(tmp_path, {"w.xml": f"<mediawiki>{page}{other}</mediawiki>"})
    assert [d.text for d in read_corpus(tmp_path)] == ["新" + HANT, HANT]


def test_truncated_dump_keeps_the_pages_before_the_break(tmp_path):
    """Dumps of gigabytes break off; what was read is still knowledge."""
    whole = dump([{"title": f"條目{n}", "text": f"{n}{HANT}"} for n in range(5)])
    write(tmp_path, {"w.xml": whole[: whole.index("條目4")], "v.xml.bz2": bz2.compress(whole.encode())[:-20]})
    items = list(read_corpus(tmp_path))
    assert [i["rule"] for i in items if isinstance(i, dict)] == ["damaged", "damaged"]
    assert [d.title for d in items if isinstance(d, Document) and d.path.startswith("w.xml")] == [
        f"條目{n}" for n in range(4)
    ]


@pytest.mark.parametrize(
    "markup", ["{{" * 4000, "[[" * 4000 + "甲", "-{" * 4000, "{|\n|" * 500, "'" * 20_000, "-{a" * 3000 + "}-"]
)
def test_hostile_markup_ends(markup):
    """Unclosed markup must not hang or crash the reader."""
    try:
        assert isinstance(wiki_text(markup)[0], str)
    except documents.SkipDocument:
        pass


def test_xml_entities_are_not_expanded(tmp_path):
    """A dump is data: it must not read other files or grow without bound."""
    (tmp_path / "secret.dat").write_text("SECRET" * 10)
    entity = f'<!DOCTYPE m [<!ENTITY x SYSTEM "{(tmp_path / "secret.dat").as_uri()}">]>'
    write(tmp_path, {"w.xml": entity + dump([{"title": "甲", "text": f"{HANT}&x;"}])})
    assert "SECRET" not in str(list(read_corpus(tmp_path)))


# Hugging Face datasets


def test_hub_source_is_parsed_and_explained():
    """The notebook has one parameter for a dataset; its parts must not be guessed."""
    assert parse_source("hub:a/b") == ("a/b", None, "train", "text")
    assert parse_source("hub:a/b:20231101.zh:test:body") == ("a/b", "20231101.zh", "test", "body")
    assert parse_source("hub:a/b::test") == ("a/b", None, "test", "text")
    for wrong in ("hub:", "hub:a:b:c:d:e"):
        with pytest.raises(KyaraError, match="hub:PATH"):
            parse_source(wrong)


def test_dataset_rows_become_documents(tmp_path):
    """Streaming through `datasets` must give the same documents and rejects as the file itself."""
    rows = [{"title": "列1", "body": HANT}, {"title": "列2", "body": "短"}, {"title": "列3", "body": HANS}]
    write(tmp_path, {"set/test.jsonl": "\n".join(map(json.dumps, rows))})
    first, refused, last = read_corpus(f"hub:{tmp_path / 'set'}::test:body")
    assert (first.title, first.text, last.text) == ("列1", HANT, HANS) and refused["rule"] == "too_short"
    with pytest.raises(KyaraError, match="title, body"):
        list(read_corpus(f"hub:{tmp_path / 'set'}::test"))
    with pytest.raises(KyaraError, match="cannot read"):
        list(read_corpus(f"hub:{tmp_path / 'nowhere'}"))
