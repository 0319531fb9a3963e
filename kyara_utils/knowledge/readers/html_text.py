"""A web page's title and main text.

Elements that say what they are (nav, footer, a sidebar by class) fall away, trafilatura finds the part of the page
where the article stands, and all of that part is written out by `block_text`, which loses neither lists nor columns.
Where more than links stands beside the found part, the page is a manual rather than an article with trimmings, and
the part is widened up to it.
"""

import logging
import re
from typing import Any

from kyara_utils.knowledge.readers.block_text import BLOCKS, HEADINGS, text_of

FURNITURE = {
    *(
        "navheader",
        "navfooter",
        "toc",
        "list-of-tables",
        "list-of-figures",
        "sphinxsidebar",
        "breadcrumb",
        "breadcrumbs",
    ),
    *("navbar", "navigation", "related", "sidebar", "site-header", "site-footer", "page-footer", "footer", "menu"),
    *("pagination", "pager", "cookie-banner", "skip-link", "mw-editsection", "printfooter", "catlinks", "headerlink"),
    *(
        "comments",
        "comment-list",
        "noprint",
        "visually-hidden",
        "sr-only",
        "debug",
        "advert",
        "ads",
        "share",
        "social",
        "mw-jump-link",
        "backlink",
    ),
}
ROLES = {"navigation", "banner", "contentinfo", "search", "complementary", "menu", "menubar", "toolbar", "dialog"}
DROPPED = ("nav", "aside", "footer", "dialog", "search")
CONTAINERS = ("article", "blockquote", "body", "center", "div", "fieldset", "form", "main", "section", "td")
HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
KEYS = {"kbd", "keycode", "keysym", "keycap", "key", "shortcut"}
NO_LETTER = re.compile(r"[\W_]+")
SHORT = 100  # characters
MORE = 0.1  # of the words found: what stands beside them and is more than that belongs to the text
PROSE = 0.5  # of the letters beside it must stand outside links, for a menu does not
MARKED = 0.9  # of the characters it finds must stand in the element taken


def html_to_text(markup: str) -> tuple[str, str]:
    """Return (title, text) of a page; text is "" where nothing is left to read.

    Headings are lines that start with `#`, code stands between ``` fences, a table row is `| cell | cell |`.
    """
    tree = parse(markup)
    if tree is None or tree.find("body") is None:
        return "", ""
    title = _title(tree)
    body = tree.find("body")
    prepare(body)
    text = text_of(_main(tree, body))
    first, _, rest = text.partition("\n")
    return title, rest.strip() if first.startswith("#") and first.lstrip("# ") == title else text


def parse(markup: str, comments: bool = False) -> Any:
    """Parse as HTML; bytes, because lxml refuses a string that declares its own encoding. None where there is none."""
    import lxml.html
    from lxml.etree import LxmlError

    parser = lxml.html.HTMLParser(encoding="utf-8", no_network=True, remove_comments=not comments, remove_pis=True)
    try:
        return lxml.html.document_fromstring(markup.encode("utf-8", "replace"), parser=parser)
    except (LxmlError, ValueError):
        return None


def _title(tree: Any) -> str:
    found = next((e for tag in ("title", "h1") for e in tree.iter(tag) if e.text_content().strip()), None)
    return "" if found is None else " ".join(found.text_content().split())


def prepare(body: Any) -> None:
    """Drop navigation, and part what would touch: keys, and hidden variants of which a script shows one."""
    for element in list(body.iterdescendants()):
        if _is_furniture(element) and element.getparent() is not None:
            element.drop_tree()
    for element in list(body.iter("del", "s", "strike")):  # what another text has taken the place of
        following = element.getnext()
        if following is not None and following.tag == "ins" and not (element.tail or "").strip():
            element.drop_tree()
    for element in list(body.iter(*KEYS, "span")):
        following = element.getnext()
        if _is_key(element) and following is not None and _is_key(following) and not (element.tail or "").strip():
            element.tail = " "
    for element in body.xpath(".//*[@hidden][following-sibling::*[1][@hidden]]"):
        if not (element.tail or "").strip():
            element.tail = " / "


def _is_furniture(element: Any) -> bool:
    if element.tag in DROPPED or element.get("role") in ROLES:
        return True
    if HIDDEN.search(element.get("style") or ""):  # a long one is no leftover but waits behind a tab
        return len(_squeezed("".join(element.itertext()))) < SHORT
    if element.tag == "header":
        return next(element.iterancestors("article", "main", "section"), None) is None and not len(
            element.findall(".//h1")
        )
    names = {*(element.get("class") or "").lower().split(), (element.get("id") or "").lower()}
    return bool(names & FURNITURE) and element.tag not in ("body", "main", "article", "h1")


def _is_key(element: Any) -> bool:
    names = {element.tag, *(element.get("class") or "").lower().split()}
    return bool(KEYS & names)


def _main(tree: Any, body: Any) -> Any:
    """The smallest element that holds what trafilatura finds, widened to what it leaves out."""
    found = _squeezed(_extract(tree))
    weights: dict[Any, int] = {}
    for leaf in body.iter(*BLOCKS):
        if any(child.tag in BLOCKS for child in leaf):
            continue
        text = _squeezed("".join(leaf.itertext()))
        if text and text in found:
            for element in (leaf, *leaf.iterancestors()):
                weights[element] = weights.get(element, 0) + len(text)
    total = weights.get(body, 0)
    holding = [e for e, weight in weights.items() if total and weight >= MARKED * total]
    best = max(holding, key=lambda element: sum(1 for _ in element.iterancestors()), default=body)
    return _widened(best, body)


def _widened(best: Any, body: Any) -> Any:
    """The ancestor up to which there is more text beside the element found: trafilatura leaves out lists and notes."""
    words, letters = len(_words(best)), len(_squeezed("".join(best.itertext())))
    if best.tag in ("td", "li", "p", "dd", "blockquote", *HEADINGS):
        words = letters = 0
    for above in best.iterancestors():
        if best is body:
            break
        more_words, more_letters = len(_words(above)) - words, len(_squeezed("".join(above.itertext()))) - letters
        if more_words > MORE * words and more_words > PROSE * more_letters:
            best, words, letters = above, words + more_words, letters + more_letters
        if above is body:
            break
    return next((e for e in (best, *best.iterancestors()) if e.tag in CONTAINERS), body)


def _squeezed(text: str) -> str:
    return NO_LETTER.sub("", text)


def _words(element: Any) -> str:
    """Letters outside links: a menu is long, but says nothing."""
    return _squeezed(
        "".join(element.xpath(".//text()[not(ancestor::a) and not(ancestor::script) and not(ancestor::style)]"))
    )


def _extract(tree: Any) -> str:
    from copy import deepcopy

    import trafilatura

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it warns of each page that it finds nothing in
    return trafilatura.extract(deepcopy(tree), output_format="txt", include_comments=False, include_tables=True) or ""
