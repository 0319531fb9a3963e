"""Articles out of MediaWiki XML dumps (Wikipedia and its sisters), one page in memory at a time.

lxml walks the XML, mwparserfromhell the markup: templates, references, files and categories fall away, headings
and link texts stay. Chinese wikis write both scripts in one place (-{zh-hans:…;zh-hant:…}-); the Traditional
form is taken.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kyara_utils.knowledge.readers.documents import Document, ReaderOptions, SkipDocument, documents, skip_row
from kyara_utils.knowledge.readers.encodings import open_bytes

HEADING = "\ue000"  # a private character keeps the level of a heading through the stripping
LEVELS = re.compile(f"(?m)^[ \t]{{0,9}}({HEADING}{{1,6}})")
BLANK = re.compile(r"\n{3,}")
VARIANT = re.compile(r"-\{((?:[^{}]|\{(?!-)){0,500}?)\}-")
PREFERRED = ("zh-tw", "zh-hant", "zh-hk", "zh-mo", "zh")
HIDDEN_LINKS = "file image media category 檔案 档案 文件 圖像 图像 媒體 媒体 分類 分类".split()
HIDDEN_TAGS = ("ref", "references", "gallery", "imagemap", "timeline", "score", "graph", "templatestyles")
SWITCH = re.compile(r"__[A-Z]{3,24}__")
REDIRECT = re.compile(r"#(?:redirect|重定向|重新導向)", re.I)
LONGEST_PAGE = 8_000_000  # characters of markup


def read_mediawiki(path: Path, stem: str, name: str, options: ReaderOptions) -> Iterator[Document | dict[str, Any]]:
    """Yield the articles of a dump, and a reject row for each redirect (rule `redirect`) and other page (`namespace`).

    Raises `SkipDocument` where the XML breaks off or holds no pages; what came before stays.
    """
    from lxml import etree

    pages = 0
    with open_bytes(path) as file:
        try:
            walk = etree.iterparse(file, events=("end",), tag="{*}page", resolve_entities=False, no_network=True)
            for _, page in walk:
                pages += 1
                yield from _page(page, name, options)
                page.clear()
                while page.getprevious() is not None:
                    del page.getparent()[0]
        except etree.XMLSyntaxError as error:
            raise SkipDocument("damaged", f"not valid XML after {pages} pages: {error.msg}") from error
    if not pages:
        raise SkipDocument("extraction_failed", "no MediaWiki export: it holds no pages")


def _page(page: Any, name: str, options: ReaderOptions) -> Iterator[Document | dict[str, Any]]:
    title = page.findtext("{*}title") or ""
    path = f"{name}#{page.findtext('{*}id') or title}"
    markup = page.findtext("{*}revision/{*}text") or ""
    try:
        if (page.findtext("{*}ns") or "0") != "0":
            raise SkipDocument("namespace", title)
        if page.find("{*}redirect") is not None or REDIRECT.match(markup.lstrip()):
            raise SkipDocument("redirect", title)
        yield from documents(title or path, strip_markup(markup), path, options)
    except SkipDocument as why:
        yield skip_row(path, why)


def strip_markup(markup: str) -> str:
    """Return the text of a page, headings as Markdown lines. Raises `SkipDocument` on markup beyond parsing."""
    import mwparserfromhell
    from mwparserfromhell.nodes import Heading, Tag, Wikilink

    if len(markup) > LONGEST_PAGE:
        raise SkipDocument("too_large", f"{len(markup)} characters of markup")
    try:
        code = mwparserfromhell.parse(VARIANT.sub(lambda found: _variant(found[1]), SWITCH.sub("", markup)))
    except (RecursionError, mwparserfromhell.parser.ParserError) as error:
        raise SkipDocument("extraction_failed", f"markup cannot be parsed: {error}") from error
    for node in code.filter(forcetype=(Heading, Wikilink, Tag)):
        if isinstance(node, Heading):
            node.title = HEADING * node.level + " " + str(node.title).strip()
        elif isinstance(node, Wikilink) and str(node.title).strip().partition(":")[0].lower() in HIDDEN_LINKS:
            node.title, node.text = "", None
        elif isinstance(node, Tag) and str(node.tag).lower() in HIDDEN_TAGS:
            node.contents = ""
    for table in code.filter_tags(recursive=False, matches=lambda tag: tag.tag == "table"):
        table.contents = "\n" + "\n".join(_rows(table)) + "\n"
    text = code.strip_code(normalize=True, collapse=True)
    text = LEVELS.sub(lambda found: "\n" + "#" * len(found[1]), text).replace(HEADING, "")
    return BLANK.sub("\n\n", "\n".join(line.rstrip() for line in text.split("\n"))).strip()


def _rows(table: Any) -> Iterator[str]:
    """Yield the rows of a table as `| cell | cell |`, a single cell as a line of its own."""
    row: list[str] = []
    for node in [*table.contents.nodes, None]:
        name = str(getattr(node, "tag", "tr" if node is None else ""))
        if name in ("td", "th") and not row and _cell(node).startswith("+"):
            yield _cell(node).lstrip("+ ")  # the caption
        elif name in ("td", "th"):
            row.append(_cell(node))
        elif name == "tr":
            inner = [] if node is None else node.contents.filter_tags(recursive=False)
            for cells in (row, [_cell(tag) for tag in inner if tag.tag in ("td", "th")]):
                full = [cell for cell in cells if cell]
                if full:
                    yield f"| {' | '.join(full)} |" if len(full) > 1 else full[0]
            row = []


def _cell(node: Any) -> str:
    return " ".join(node.contents.strip_code().replace(HEADING, "").split()) if node.contents else ""


def _variant(body: str) -> str:
    """The Traditional form of `flags|zh-hans:甲;zh-hant:乙`, or the text itself; rules for other places are dropped."""
    flags, bar, rest = body.partition("|")
    if bar and re.fullmatch(r"[A-Z;\s]*", flags):
        if set(flags) & set("TH-"):
            return ""
        body = rest
    forms = dict(part.split(":", 1) for part in body.split(";") if re.match(r"\s*zh[a-z-]*\s*:", part))
    known = {name.strip().lower(): form.strip() for name, form in forms.items()}
    return next((known[name] for name in PREFERRED if name in known), next(iter(known.values()), body))
