"""A folder of ten formats and the faults of real folders: every file gives its facts or a row that says why not."""

import json
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from folders import HANT

from kyara_utils.knowledge.readers import file_list, pdf
from kyara_utils.knowledge.readers.folder import Document, read_corpus

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
R = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
P = 'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
RELATIONS = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'
RAISED = '<w:vertAlign w:val="superscript"/>'
ODF = 'xmlns:office="urn:o" xmlns:text="urn:t" xmlns:table="urn:b" xmlns:style="urn:s"'


def pack(path: Path, parts: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return path


def run(text: str, settings: str = "") -> str:
    return f"<w:r><w:rPr>{settings}</w:rPr><w:t>{text}</w:t></w:r>"


def make_docx(path: Path) -> Path:
    rows = "".join(
        f"<w:tr>{''.join(f'<w:tc><w:p>{run(cell)}</w:p></w:tc>' for cell in row)}</w:tr>"
        for row in (("年", "人口"), ("1900", ""), ("1950", "七百萬"))
    )
    body = (
        f'<w:p><w:pPr><w:pStyle w:val="1"/></w:pPr>{run("產業")}</w:p><w:p>{run(HANT)}'
        f"<w:ins>{run('後來加上的字。')}</w:ins><w:del><w:r><w:delText>刪掉的字</w:delText></w:r></w:del>"
        f"{run('10')}{run('9', RAISED)}</w:p>"
        f'<w:p><w:pPr><w:numPr><w:ilvl w:val="0"/><w:numId w:val="3"/></w:numPr></w:pPr>{run("第一項")}</w:p>'
        f"<w:sdt><w:sdtContent><w:p>{run('控制項裡的字。')}</w:p></w:sdtContent></w:sdt><w:tbl>{rows}</w:tbl>"
    )
    return pack(path, {
        "word/document.xml": f"<w:document {W}><w:body>{body}</w:body></w:document>",
        "word/styles.xml": f'<w:styles {W}><w:style w:styleId="1"><w:name w:val="heading 1"/></w:style></w:styles>',
        "docProps/core.xml": '<c xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>文件</dc:title></c>',
    })  # fmt: skip


def make_pptx(path: Path) -> Path:
    def shape(kind, text):
        place = f"<p:nvSpPr><p:nvPr><p:ph type='{kind}'/></p:nvPr></p:nvSpPr>"
        return f"<p:sp>{place}<p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"

    def slide(title, text):
        return f"<p:sld {P} {A}>{shape('body', text)}{shape('title', title)}{shape('sldNum', '7')}</p:sld>"

    links = "".join(f'<Relationship Id="r{n}" Target="slides/slide{n}.xml"/>' for n in (1, 2))
    order = '<p:sldId id="256" r:id="r2"/><p:sldId id="257" r:id="r1"/>'
    return pack(path, {
        "ppt/presentation.xml": f"<p:presentation {P} {R}><p:sldIdLst>{order}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": f"<Relationships {RELATIONS}>{links}</Relationships>",
        "ppt/slides/slide1.xml": slide("後", "第二張的內容"),
        "ppt/slides/slide2.xml": slide("先", HANT),
    })  # fmt: skip


def make_odt(path: Path) -> Path:
    table = "<table:table><table:table-row><table:table-cell><text:p>年</text:p></table:table-cell><table:table-cell>"
    table += "<text:p>人口</text:p></table:table-cell></table:table-row></table:table>"
    style = '<style:style style:name="T1"><style:text-properties style:text-position="super 58%"/></style:style>'
    body = f'<text:h text:outline-level="2">小節</text:h><text:p>{HANT}10<text:span text:style-name="T1">9</text:span>'
    body += "<text:note>註腳的話</text:note></text:p><text:tracked-changes>刪掉的字</text:tracked-changes>"
    body = f"<office:text>{body}{table}</office:text>"
    return pack(path, {"content.xml": f"<office:document-content {ODF}>{style}{body}</office:document-content>"})


def make_epub(path: Path) -> Path:
    items = "".join(f'<item id="c{n}" href="{n}.xhtml"/>' for n in (1, 2))
    meta = '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>書名</dc:title></metadata>'
    spine = '<spine><itemref idref="c2"/><itemref idref="c1"/></spine>'
    page = '<?xml version="1.0" encoding="utf-8"?><html><body><h2>{}</h2><p>{}</p></body></html>'
    return pack(path, {
        "META-INF/container.xml": '<container><rootfile full-path="OPS/a.opf"/></container>',
        "OPS/a.opf": f"<package>{meta}<manifest>{items}</manifest>{spine}</package>",
        "OPS/1.xhtml": page.format("後章", "第二章的內容"),
        "OPS/2.xhtml": page.format("前章", HANT),
    })  # fmt: skip


def make_pdf(path: Path, lines: list[str] = (), pages: int = 1) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.backends.backend_pdf import PdfPages

    with PdfPages(path) as file:
        for number in range(pages):
            figure = pyplot.figure()
            for at, line in enumerate(["Running head", *lines, f"Sentence {number} of this page.", f"- {number} -"]):
                figure.text(0.05, 0.9 - at / 10, line)
            file.savefig(figure)
            pyplot.close(figure)
    return path


def rows_of(items):
    return {(json.loads(i["row"])["path"], i["rule"]) for i in items if isinstance(i, dict)}


def test_ten_formats_give_their_text(tmp_path):
    """Half of a real folder is office files and PDF; each gave no row at all."""
    pytest.importorskip("pypdfium2")
    make_docx(tmp_path / "a.docx"), make_pptx(tmp_path / "b.pptx"), make_odt(tmp_path / "c.odt")
    make_epub(tmp_path / "d.epub"), make_pdf(tmp_path / "e.pdf", ["A line of English text that is long enough."], 4)
    (tmp_path / "f.tsv").write_text(f"title\ttext\n列\t{HANT}\n")
    (tmp_path / "g.json").write_text(json.dumps({"data": [{"title": "列", "text": HANT}, {"text": f"2{HANT}"}]}))
    (tmp_path / "h.md").write_text(f"---\ntitle: '題'\n---\n\n{HANT}[^1]\n\n[^1]: 註\n")
    (tmp_path / "i.html").write_text(f"<html><body><ul><li>{HANT}</li></ul></body></html>")
    (tmp_path / "j.jsonl").write_text(json.dumps({"text": f"甲\u2028{HANT}"}, ensure_ascii=False) + "\n")
    items = list(read_corpus(tmp_path))
    found = {item.path.partition("#")[0]: item for item in items if isinstance(item, Document)}
    assert len(found) == 10, rows_of(items)
    assert len([i for i in items if isinstance(i, Document)]) == 11
    word = found["a.docx"]
    assert word.title == "文件" and word.text.startswith("# 產業\n\n" + HANT + "後來加上的字。10⁹")
    assert "- 第一項" in word.text and "控制項裡的字。" in word.text and "刪掉" not in word.text
    assert "| 年 | 人口 |\n| 1900 |  |\n| 1950 | 七百萬 |" in word.text
    assert found["b.pptx"].text == f"## 先\n\n- {HANT}\n\n## 後\n\n- 第二張的內容" and found["b.pptx"].title == "先"
    assert found["c.odt"].text == f"## 小節\n\n{HANT}10⁹\n\n| 年 | 人口 |"
    assert found["d.epub"].title == "書名" and found["d.epub"].text.index("前章") < found["d.epub"].text.index("後章")
    assert "Running" not in found["e.pdf"].text and "Sentence 2 of this page." in found["e.pdf"].text
    assert (found["h.md"].title, found["h.md"].text) == ("題", HANT)
    assert rows_of(items) == {
        ("c.odt", "footnotes"),
        ("e.pdf", "running_lines"),
        ("h.md", "front_matter"),
        ("h.md", "footnotes"),
    }


def test_without_the_extra_a_pdf_is_a_reject_with_the_fix(tmp_path, monkeypatch):
    """A missing package must be named, not read as an empty file."""
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "b.txt").write_text(HANT)
    monkeypatch.setitem(__import__("sys").modules, "pypdfium2", None)
    row = next(item for item in read_corpus(tmp_path) if isinstance(item, dict))
    assert row["rule"] == "missing_package" and "kyara-utils[documents]" in row["detail"] and row["detail"] == pdf.FIX


def test_broken_office_files_are_rows(tmp_path):
    """A renamed binary, a locked or truncated file, a part that is no XML: by name, and the others are read."""
    (tmp_path / "a.docx").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(100))
    (tmp_path / "b.odt").write_bytes(b"no zip")
    pack(tmp_path / "c.epub", {"other.txt": "x"})
    pack(tmp_path / "d.docx", {"word/document.xml": "<w:document"})
    whole = make_docx(tmp_path / "e.docx").read_bytes()
    (tmp_path / "f.pptx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "g.pdf").write_bytes(b"%PDF-1.4 broken")
    (tmp_path / "h.xlsx").write_bytes(b"PK")
    items = list(read_corpus(tmp_path))
    assert [i.path for i in items if isinstance(i, Document)] == ["e.docx"]
    rules = dict(rows_of(items))
    assert rules.pop("a.docx") == "locked" and rules.pop("h.xlsx") == "file_type"
    assert set(rules) == {"b.odt", "c.epub", "d.docx", "f.pptx", "g.pdf"} and set(rules.values()) == {"damaged"}


def test_a_document_part_expands_no_entity_and_no_bomb(tmp_path, monkeypatch):
    """An office file is data: it must not read other files, nor unpack to more than memory."""
    (tmp_path / "secret").write_text("SECRET" * 20)
    entity = f'<!DOCTYPE d [<!ENTITY x SYSTEM "{(tmp_path / "secret").as_uri()}">]>'
    body = f"<w:document {W}><w:body><w:p><w:r><w:t>{HANT}&x;</w:t></w:r></w:p></w:body></w:document>"
    pack(tmp_path / "a.docx", {"word/document.xml": entity + body})
    assert "SECRET" not in str(list(read_corpus(tmp_path)))
    monkeypatch.setattr("kyara_utils.knowledge.readers.package.LARGEST_PART", 100)
    (tmp_path / "b.txt").write_text(HANT)
    assert ("a.docx", "too_large") in rows_of(read_corpus(tmp_path))


# Folders


def test_links_pipes_and_locked_folders_are_named(tmp_path, monkeypatch):
    """A loop of links, a dangling one, a pipe: none may hang the reading or be passed over."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text(HANT)
    (tmp_path / "a_link.txt").symlink_to(tmp_path / "real" / "a.txt")
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "nowhere.txt")
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / ".git").mkdir()
    scan = os.scandir

    def scandir(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(file_list.os, "scandir", scandir)
    items = list(read_corpus(tmp_path))
    assert [i.path for i in items if isinstance(i, Document)] == ["real/a.txt"]
    rules = dict(rows_of(items))
    assert rules == {
        "a_link.txt": "symlink",
        "dangling.txt": "symlink",
        "self.txt": "symlink",
        "real/loop": "symlink",
        "pipe.txt": "file_type",
        ".git": "hidden",
        "locked": "unreadable",
    }


def test_a_file_behind_a_link_and_names_in_another_encoding_are_read(tmp_path):
    """Data folders are full of links to a store elsewhere; a Big5 file name is no reason to lose the text."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.txt").write_text(HANT)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.txt").symlink_to(tmp_path / "store" / "a.txt")
    for name in (b"\xa4\xa4.txt", b"\xa4\xa5.txt"):
        Path(os.fsdecode(os.fsencode(corpus) + b"/" + name)).write_text(name.hex() + HANT)
    found = list(read_corpus(corpus))
    assert [item.path for item in found] == ["\\xa4\\xa4.txt", "\\xa4\\xa5.txt", "a.txt"]
    assert found[0].title == "\\xa4\\xa4"


# Tables


def test_one_bad_value_in_a_parquet_column_costs_one_row(tmp_path):
    """A single string that is no UTF-8 lost the two hundred rows around it."""
    texts = [f"{n}{HANT}".encode() for n in range(200)]
    texts[70] = b"\xff\xfe" + texts[70]
    column = pa.Array.from_buffers(pa.string(), 200, pa.array(texts, pa.binary()).buffers())
    pq.write_table(
        pa.table({"text": column, "title": pa.array(["題"] * 200).dictionary_encode()}), tmp_path / "a.parquet"
    )
    items = list(read_corpus(tmp_path))
    assert len(items) == 200 and rows_of(items) == {("a.parquet#71", "encoding")}
    assert items[71].path == "a.parquet#72" and items[71].title == "題"


def test_faults_of_a_csv_cost_their_own_row(tmp_path):
    """An unclosed quote swallowed the rest of the file as one cell; of two columns of one name the last won."""
    lines = [
        "id,text,text",
        f"1,{HANT},x",
        f'2,"{HANT},x',
        f'3,"兩行\n{HANT}",x',
        f"4,{HANT},x,多一格",
        f'5,"{HANT}",x',
    ]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    items = list(read_corpus(tmp_path))
    assert [i.path for i in items if isinstance(i, Document)] == ["a.csv#1", "a.csv#3", "a.csv#5"]
    assert items[3].text == f"兩行\n{HANT}"
    assert rows_of(items) == {
        ("a.csv#head", "duplicate_column"),
        ("a.csv#2", "extraction_failed"),
        ("a.csv#4", "extraction_failed"),
    }
    (tmp_path / "a.csv").write_text(f'text,n\n"{HANT}\n' + f"{HANT},2\n" * 3)
    items = list(read_corpus(tmp_path))
    assert [i.path for i in items if isinstance(i, Document)] == ["a.csv#2", "a.csv#3", "a.csv#4"]


@pytest.mark.parametrize(
    "content", ["[{}, {}, {}]", "{}\n{}\n{}", '{{"rows": [{}, {}, {}]}}', '{{"a": {}, "b": {}, "c": {}}}']
)
def test_every_shape_of_json_gives_its_rows(tmp_path, content):
    """An array, lines, an object of rows: a reader that knows one of them loses the others in silence."""
    rows = [json.dumps({"text": f"{n}{HANT}"}, ensure_ascii=False) for n in range(3)]
    (tmp_path / "a.json").write_text(content.format(*rows))
    assert [item.path for item in read_corpus(tmp_path)] == ["a.json#1", "a.json#2", "a.json#3"]


def test_a_json_array_that_breaks_off_keeps_what_came_before(tmp_path):
    rows = ", ".join(json.dumps({"text": f"{n}{HANT}"}) for n in range(3))
    (tmp_path / "a.json").write_text(f'[{rows}, {{"text": "')
    items = list(read_corpus(tmp_path))
    assert len(items) == 4 and rows_of(items) == {("a.json#4", "extraction_failed")}
