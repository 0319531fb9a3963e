"""MediaWiki markup to text: headings, lists, tables and formulas stay, files, references and categories fall away.

mwparserfromhell parses. What a template shows is put in its place (`wiki_templates`); where nobody knows what it
shows, the sentence is taken out as a whole and handed back, for a fact with a hole is none.
"""

import re
from typing import Any

from lxml import etree

from kyara_utils.knowledge.readers.block_text import LOWERED, RAISED, blocks, script
from kyara_utils.knowledge.readers.documents import SkipDocument
from kyara_utils.knowledge.readers.wiki_templates import HOLE, shown, values_of
from kyara_utils.knowledge.readers.wiki_variants import choose_variants

HEADING, LINE, ITEM = "\ue000", "\ue006", "\ue007"  # private characters live through the stripping
MARKS = "<{['"  # of markup, in what is text already and must not be read as markup again
KEPT = str.maketrans({mark: chr(0xE020 + at) for at, mark in enumerate(MARKS)})
RESTORED = str.maketrans({chr(0xE020 + at): mark for at, mark in enumerate(MARKS)} | {"\u00a0": " "})
LEVELS = re.compile(f"(?m)^[ \t]{{0,9}}({HEADING}{{1,6}})")
ITEMS = re.compile(f"(?m)^[ \t]*({ITEM}+)[ \t]*")
BLANK = re.compile(r"\n{3,}")
HIDDEN_LINKS = "file image media category 檔案 档案 文件 圖像 图像 媒體 媒体 分類 分类".split()
HIDDEN_TAGS = {"ref", "references", "gallery", "imagemap", "timeline", "score", "graph", "templatestyles", "mapframe"}
CODE_TAGS = {"syntaxhighlight", "source", "pre"}
FORMULAS = {"math", "chem", "ce"}
SWITCH = re.compile(r"__[A-Z]{3,24}__")
HOLED_BRACKET = re.compile(rf"[（(][^（()）]*{HOLE}[^（()）]*[）)]")
AFTER_END = re.compile(rf"(?m)(^|[。！？；」』])[ \t]*{HOLE}+[ \t]*$")
SENTENCE = re.compile(r"[^。！？；\n]*[。！？；]*[」』”’）]*")
LONGEST_PAGE = 8_000_000  # characters of markup


def wiki_text(markup: str) -> tuple[str, list[str]]:
    """Return (text, sentences taken out for a template of which nobody knows what it shows).

    Headings are Markdown lines. Raises `SkipDocument` on markup beyond parsing.
    """
    import mwparserfromhell

    if len(markup) > LONGEST_PAGE:
        raise SkipDocument("too_large", f"{len(markup)} characters of markup")
    try:
        code = mwparserfromhell.parse(choose_variants(SWITCH.sub("", markup)))
        text = _text(code)
    except (RecursionError, mwparserfromhell.parser.ParserError) as error:
        raise SkipDocument("extraction_failed", f"markup cannot be parsed: {error}") from error
    text = LEVELS.sub(lambda found: "\n" + "#" * len(found[1]), text).replace(HEADING, "")
    text = ITEMS.sub(lambda found: "  " * (len(found[1]) - 1) + "- ", text).replace(ITEM, "")
    text, holes = without_holes(text.translate(RESTORED).replace(LINE, "\n"))
    lines = (line.rstrip() if line.startswith("  ") else line.strip() for line in text.split("\n"))
    return BLANK.sub("\n\n", "\n".join(lines)).strip(), holes


def _text(code: Any) -> str:
    """Text of parsed markup, its parts made text from the inside out."""
    from mwparserfromhell.nodes import Argument, Heading, Tag, Template, Wikilink

    for node in list(code.nodes):
        if isinstance(node, Template):
            code.replace(node, _plain(shown(*values_of(node, _text))))
        elif isinstance(node, Argument):
            code.replace(node, HOLE)
        elif isinstance(node, Heading):
            node.title = HEADING * node.level + " " + _text(node.title).strip().replace(HOLE, "")
        elif isinstance(node, Wikilink):
            hidden = str(node.title).strip().partition(":")[0].lower() in HIDDEN_LINKS
            node.title, node.text = ("", None) if hidden else (node.title, _text(node.text) if node.text else None)
        elif isinstance(node, Tag):
            code.replace(node, _tag(node))
    return code.strip_code(normalize=True, collapse=True)


def _plain(text: str) -> str:
    """Text that is not to be parsed again."""
    return text.translate(KEPT)


def _tag(node: Any) -> Any:
    name = str(node.tag).strip().lower()
    if name in HIDDEN_TAGS:
        return ""
    if name in FORMULAS:
        return _plain(f"${' '.join(str(node.contents).split())}$")
    if name in CODE_TAGS:
        return _plain(f"\n```\n{str(node.contents).strip(chr(10))}\n```\n".replace("\n", LINE))
    if name == "br":
        return LINE
    if name == "table":
        return _plain("\n" + "\n".join(_table(node)) + "\n")
    if node.contents is None or name in ("li", "dt", "dd", "hr"):
        return ITEM if node.wiki_markup in ("*", "#") else ""
    inner = _text(node.contents)
    if name in ("sup", "sub"):
        return _plain(script(inner, *((RAISED, "^") if name == "sup" else (LOWERED, "_"))))
    return _plain(inner.replace("\n", LINE) if name == "poem" else inner)


def _table(node: Any) -> list[str]:
    """Rows `| cell | cell |` with empty cells in their columns and spans spread out."""
    table = etree.Element("table")
    row = etree.SubElement(table, "tr")
    captions = []
    for child in node.contents.nodes if node.contents else []:
        name = str(getattr(child, "tag", "")).strip()
        if name in ("td", "th"):
            text = _cell(child)
            if not len(row) and text.startswith("+"):
                captions.append(text.lstrip("+ "))
            else:
                _add_cell(row, child, text)
        elif name == "tr":
            row = etree.SubElement(table, "tr")
            for cell in child.contents.nodes if child.contents else []:
                if str(getattr(cell, "tag", "")).strip() in ("td", "th"):
                    _add_cell(row, cell, _cell(cell))
    body = etree.Element("body")
    body.append(table)
    return [*captions, *blocks(body)]


def _cell(node: Any) -> str:
    return " ".join(_text(node.contents).replace(HEADING, "").replace(LINE, " ").split()) if node.contents else ""


def _add_cell(row: Any, node: Any, text: str) -> None:
    spans = {}
    for attribute in node.attributes:
        if str(attribute.name).strip().lower() in ("colspan", "rowspan"):
            spans[str(attribute.name).strip().lower()] = str(attribute.value or "").strip(" \"'")
    etree.SubElement(row, "td", **spans).text = text.translate(RESTORED)


def without_holes(text: str) -> tuple[str, list[str]]:
    """Take holes out: alone on a line or after a sentence they are notes, in brackets these go, else the sentence."""
    gone = [found[0].replace(HOLE, "{…}") for found in HOLED_BRACKET.finditer(text)]
    text = AFTER_END.sub(r"\1", HOLED_BRACKET.sub("", text))
    if HOLE not in text:
        return text, gone
    kept = []
    for line in text.split("\n"):
        if HOLE in line and line.startswith("#"):
            line = line.replace(HOLE, "")
        if HOLE not in line:
            kept.append(line)
            continue
        sentences = [line] if line.startswith("|") else [found[0] for found in SENTENCE.finditer(line) if found[0]]
        gone += [sentence.replace(HOLE, "{…}").strip() for sentence in sentences if HOLE in sentence]
        kept.append("".join(sentence for sentence in sentences if HOLE not in sentence))
    return "\n".join(kept), gone
