"""What surrounds a text without being it: footnotes, reference sections, link lists, images, comments.

Each becomes a chunk otherwise, and a question about a list of addresses. What is taken off is kept by kind.
"""

import re
from collections.abc import Iterator
from typing import Any

from lxml.etree import Comment

from kyara_utils.knowledge.readers.block_text import HEADINGS, blocks, settle

REFERENCES = re.compile(
    r"(?:參考|参考)(?:資料|资料|文獻|文献|來源|来源|連結|链接|書目|书目|網站)?(?:與(?:延伸閱讀|來源|註釋))?|(?:資料|资料|圖片|图片|照片|引用|數據|数据)(?:來源|来源|出處|出处|授權|版權)(?:與授權)?"
    r"|延伸(?:閱讀|阅读)|(?:相關|相关)(?:主題|主题|條目|条目|文章|連結|链接|閱讀|阅读|頁面)|外部(?:連結|链接|鏈接)|參見|参见|參閱|另見|另见"
    r"|(?:註|注)(?:釋|释|解|腳|脚)|腳註|脚注|引註|引用|來源|来源|出處"
    r"|references?(?: list)?|bibliography|works cited|further reading|see also|external links|sources?|citations?"
    r"|footnotes?|end ?notes?|notes|image (?:credits?|sources?)|related (?:articles|pages|topics|links)",
    re.I,
)
MARKS = re.compile(r"^[\W\d_]+|[\W_]+$")
ASIDE = re.compile(r"[（(][^（()）]*[）)]\W*$")
LONGEST_NAME = 40  # characters of a heading that may name a reference section
PROSE = 300  # characters of paragraphs without a link: a section of more is text, whatever its heading
LINKED = 0.6  # of a list's characters stand in links: it is a list of links
LINKED_LINE = 0.8  # the same of a paragraph


def remove_apparatus(body: Any, dropped: dict[str, list[str]]) -> None:
    """Take it out of a tree, in place, and put the texts into `dropped` by kind."""
    for image in list(body.iter("img")):
        dropped["images"].append(f"{image.get('alt') or ''} {image.get('src') or ''}".strip())
        image.drop_tree()
    for note in [e for e in body.iter("div", "section", "ol", "li") if "footnote-definition" in (e.get("class") or "")]:
        _take([note], "footnotes", dropped)
    for heading in list(body.iter(*HEADINGS)):
        if heading.getparent() is not None and _names_references(heading):
            _take_section(heading, dropped)
    for name in [p for p in body.iter("p") if _names_references(p)]:
        if lists := list(_link_blocks_after(name)):
            _take([name, *lists], "reference_section", dropped)
    for links in [e for e in body.iter("ul", "ol", "p") if _is_link_list(e)]:
        if links.getparent() is not None:
            _take([links], "link_list", dropped)
    for comment in list(body.iter(Comment)):
        dropped["comments"].append((comment.text or "").strip())
        comment.drop_tree()


def _take(elements: list[Any], kind: str, dropped: dict[str, list[str]]) -> None:
    texts = [" ".join(blocks(element)) for element in elements]
    links = [link.get("href") for element in elements for link in element.iter("a") if link.get("href")]
    if text := "\n".join([*filter(None, texts), *links]):
        dropped[kind].append(text)
    for element in elements:
        element.drop_tree()


def _names_references(element: Any) -> bool:
    text = settle("".join(element.itertext()))
    if not text or len(text) > LONGEST_NAME:
        return False
    text = ASIDE.sub("", text)
    parts = [MARKS.sub("", part) for part in re.split(r"[/／｜|&（(]|與|和|及|、", text)]
    whole = MARKS.sub("", text)
    return bool(REFERENCES.fullmatch(whole)) or all(REFERENCES.fullmatch(part) for part in parts if part) and any(parts)


def _take_section(heading: Any, dropped: dict[str, list[str]]) -> None:
    """A heading and what follows it up to the next of its level, unless that is prose."""
    elements = [heading]
    for following in heading.itersiblings():
        if following.tag in HEADINGS and following.tag <= heading.tag:
            break
        elements.append(following)
    paragraphs = [settle("".join(e.itertext())) for e in elements[1:] if e.tag == "p" and e.find(".//a") is None]
    if sum(len(text) for text in paragraphs if "://" not in text) <= PROSE:
        _take(elements, "reference_section", dropped)


def _link_blocks_after(name: Any) -> Iterator[Any]:
    for following in name.itersiblings():
        if following.tag not in ("ul", "ol", "p") or following.find(".//a") is None:
            return
        if following.tag == "p" and not _is_link_list(following):
            return
        yield following


def _is_link_list(element: Any) -> bool:
    """Whether links are nearly all there is; a list that a sentence introduces (有：) is part of that sentence."""
    links = list(element.iter("a"))
    total = len(settle("".join(element.itertext())))
    linked = sum(len(settle("".join(link.itertext()))) for link in links)
    if not links or not total:
        return False
    if element.tag == "p":
        own = MARKS.sub("", settle(element.text or ""))
        names = bool(REFERENCES.fullmatch(own)) or _starts_with_name(element)
        return names or (linked >= LINKED_LINE * total and element.getparent().tag not in ("li", "td", "dd"))
    items = [item for item in element if item.tag == "li"]
    before = element.getprevious()
    introduced = before is not None and settle("".join(before.itertext())).endswith(("：", ":"))
    return not introduced and linked >= LINKED * total and all(item.find(".//a") is not None for item in items)


def _starts_with_name(element: Any) -> bool:
    start = settle("".join(element.itertext()))[:LONGEST_NAME]
    name, colon, _ = re.sub("[:：]", "：", start).partition("：")
    return bool(colon) and bool(REFERENCES.fullmatch(MARKS.sub("", name)))
