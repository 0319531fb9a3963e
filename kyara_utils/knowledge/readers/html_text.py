"""HTML to plain text with headings, code fences and readable tables.

trafilatura is built for news pages: on a manual (DocBook, Sphinx) it drops most headings, because every
section sits in nested wrappers, and reorders inline code. So the tree is first reduced to blocks, and where
headings still get lost the wrappers are flattened into one article, which keeps them all.
"""

import re

NAVIGATION = {
    "navheader",
    "navfooter",
    "toc",
    "list-of-tables",
    "list-of-figures",
    "sphinxsidebar",
    "breadcrumbs",
    "navbar",
    "related",
}
INLINE = (
    "a",
    "abbr",
    "b",
    "cite",
    "code",
    "del",
    "em",
    "font",
    "i",
    "ins",
    "kbd",
    "mark",
    "q",
    "samp",
    "small",
    "span",
    "strong",
    "sub",
    "sup",
    "tt",
    "u",
    "var",
)
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
WIDE = r"[⺀-鿿豈-﫿＀-￯　-〿]"
WRAP = re.compile(r"[ \t\r]*\n\s*")
ESCAPED = re.compile(r"\\([\\`*_{}\[\]()+\-.!~|<>])")  # of Markdown, added by trafilatura
MARK = "⟦code {}⟧"
MARKED = re.compile(r"[\s|]*⟦code (\d{1,6})⟧\s*")
BETWEEN_WIDE = re.compile(f"(?<={WIDE})\n(?={WIDE})")


def html_to_text(markup: str) -> tuple[str, str]:
    """Return (title, text) of a page; text is "" where no main content is found.

    Headings are lines that start with `#`, code stands between ``` fences, a table row is `| cell | cell |`.
    """
    tree = _parse(markup)
    if tree is None or tree.find("body") is None:
        return "", ""
    title = _title(tree)
    codes = _reduce(tree)
    text = _extract(tree)
    if 2 * _heading_lines(text) < sum(1 for _ in tree.iter(*HEADINGS)):
        text = _extract(_flatten(tree)) or text
    return title, _restore(_tidy(text, title), codes)


def _parse(markup: str):
    """Parse as HTML; bytes, because lxml refuses a string that declares its own encoding."""
    import lxml.html
    from lxml.etree import LxmlError

    parser = lxml.html.HTMLParser(encoding="utf-8", no_network=True)
    try:
        return lxml.html.document_fromstring(markup.encode("utf-8", "replace"), parser=parser)
    except (LxmlError, ValueError):
        return None


def _title(tree) -> str:
    found = next((e for tag in ("title", "h1") for e in tree.iter(tag) if e.text_content().strip()), None)
    return "" if found is None else " ".join(found.text_content().split())


def _reduce(tree) -> list[str]:
    """Drop navigation and inline tags and undo soft line wraps, in place; return the texts of `pre`.

    Each `pre` becomes a paragraph with a mark: trafilatura folds code inside lists and tables into one line.
    """
    from lxml import etree

    body = tree.find("body")
    for element in list(body.iter("nav", "div", "dl", "ul", "ol")):
        if element.tag == "nav" or NAVIGATION & set((element.get("class") or "").lower().split()):
            element.drop_tree()
    codes = []
    for pre in list(body.iter("pre")):
        codes.append(pre.text_content().strip("\n"))
        for child in list(pre):
            pre.remove(child)
        pre.tag, pre.text = "p", MARK.format(len(codes) - 1)
    etree.strip_tags(tree, *INLINE)
    for element in body.iter(etree.Element):
        element.text, element.tail = _unwrap(element.text), _unwrap(element.tail)
    return codes


def _unwrap(text: str | None) -> str | None:
    """A line break in HTML source is a space, except between two wide characters, where it is nothing."""
    return text and BETWEEN_WIDE.sub("", WRAP.sub("\n", text)).replace("\n", " ")


def _extract(tree) -> str:
    from copy import deepcopy

    import trafilatura

    return (
        trafilatura.extract(
            deepcopy(tree),
            output_format="markdown",
            include_comments=False,
            include_tables=True,
            include_formatting=True,
        )
        or ""
    )


def _flatten(tree):
    """Return the page's main element as one `article` without inner wrappers."""
    from lxml import html

    main = next((e for tag in ("main", "article", "body") for e in tree.iter(tag)), None)
    for element in list(main.iter("div", "section", "header")):
        element.drop_tag()
    main.tag = "article"
    page = html.document_fromstring("<html><body></body></html>")
    page.find("body").append(main)
    return page


def _heading_lines(text: str) -> int:
    return sum(line.startswith("#") for line in text.split("\n"))


def _tidy(text: str, title: str) -> str:
    """Simplify table rows, undo escapes, and drop a first heading that only repeats the title."""
    rows = (_row(line) for line in text.split("\n"))
    lines = [ESCAPED.sub(r"\1", row) for row in rows if row is not None]
    if lines and lines[0].lstrip("# ") == title:
        lines = lines[1:]
    return "\n".join(lines).strip()


def _restore(text: str, codes: list[str]) -> str:
    """Put the code back in place of its marks, between fences on lines of their own."""
    fenced = [f"\n\n```\n{code}\n```\n\n" for code in codes]
    return MARKED.sub(lambda mark: "".join(fenced[int(mark[1]) :][:1]), text).strip()


def _row(line: str) -> str | None:
    """`|  | Note | ` becomes `Note`, `| a | b | ` becomes `| a | b |`; a separator row is dropped."""
    if not line.startswith("|"):
        return line
    cells = [cell.strip("| ") for cell in line.strip().strip("|").split(" | ")]
    if all(not cell.strip("-| ") for cell in cells):
        return None
    full = [cell for cell in cells if cell]
    return full[0] if len(full) == 1 else f"| {' | '.join(full)} |"
