"""Markdown to a title, its text, and what is no text: front matter, footnotes, references, link lists, images.

pulldown-cmark (through pyromark) parses, so that a `#` in code is no heading and a table stays a table; what it gives
is HTML, from which `block_text` makes the same text as of every other format. Emphasis keeps its words and loses its
stars. The parts that are taken off are returned by kind, so that each is accounted for.
"""

import re
from collections import defaultdict
from typing import Any

from kyara_utils.knowledge.readers.apparatus import remove_apparatus
from kyara_utils.knowledge.readers.block_text import BLOCKS, BREAK, HEADINGS, SKIPPED, settle, text_of
from kyara_utils.knowledge.readers.documents import SkipDocument
from kyara_utils.knowledge.readers.html_text import parse

Dropped = dict[str, list[str]]  # kind: the texts taken off
LONGEST_TITLE = 300  # characters; a longer line that starts with # is text
LONGEST_FRONT = 100_000  # characters
FRONT = re.compile(
    r"\A\ufeff?(?:---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)|\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*(?:\n|\Z))",
    re.M | re.S,
)
FIELD = re.compile(r"(?m)^[A-Za-z_][\w.-]*[ \t]*[:=]")
TITLE = re.compile(r"""(?m)^title[ \t]*[:=][ \t]*["']?(.*?)["']?[ \t]*$""")
GENERIC = re.compile(r"(?<=\w)<([A-Za-z]\w*(?:,\s*\w+)*)>")  # List<String> is no tag
INLINE_TAGS = frozenset(
    "a abbr b bdi bdo big br cite code data del dfn em font i img ins kbd mark q rp rt ruby s samp small span strike "
    "strong sub sup time tt u var wbr".split()
)
KNOWN_TAGS = INLINE_TAGS | BLOCKS | SKIPPED
CODE_MARKS = str.maketrans("*~[", "\ue002\ue003\ue004")  # in code they mean themselves
FROM_CODE = str.maketrans("\ue002\ue003\ue004", "*~[")
LEFT_OVER = re.compile(r"(?<=\S)(?:\*\*|~~)|(?:\*\*|~~)(?=\S)")
UNMATCHED = re.compile(r"\[\^[^\]\s]{1,60}\](?!\()")
WIKI_LINK = re.compile(r"!?\[\[(?:[^\[\]|\n]{1,200}\|)?([^\[\]|\n]{1,200})\]\]")
GAP = re.compile(
    r"[ \t]+(?=[，。；！？、」』）])|(?<=[，。；！？、])[ \t]+(?=[⺀-鿿「『（])"
)  # where a note's mark stood
CALLOUT = re.compile(r"(?m)^\[!\w{2,20}\][+-]?[ \t]*")
SHORTCODE = re.compile(r"\{\{[<%][^{}\n]*[>%]\}\}")
DIRECTIVE = re.compile(
    r"(?::{3,}.*|\{%.*%\}|\{\{[<%].*[>%]\}\}|\[toc\]|\[\[_?toc_?\]\]|\[!\w{2,20}\][+-]?"
    r"|export default .*|import .* from ['\"].*)",
    re.I,
)
ATTRIBUTES = re.compile(r"\s*\{[#.][\w\-:. #]+\}$")
SENTENCE_END = tuple("。！？；：，、…」』）》!?;:,.—")
SHORT_LINE = 30  # characters; lines that a writer broke on purpose are mostly shorter than those an editor wrapped


def read_markdown(text: str, title: str = "") -> tuple[str, str, Dropped]:
    """Return (title, text, parts taken off by kind); the title is the front matter's, the first heading's or `title`.

    Raises `SkipDocument` on Markdown that nests deeper than can be walked.
    """
    dropped: Dropped = defaultdict(list)
    named, body = split_front_matter(text, dropped)
    tree = _tree(body)
    if tree is None:
        return named or title, "", dropped
    try:
        remove_apparatus(tree, dropped)
        heading = _take_title(tree, named)
        _mend(tree)
        written = _clean(text_of(tree))
    except RecursionError as error:
        raise SkipDocument("extraction_failed", "nested deeper than can be read") from error
    return named or heading or title, written, dropped


def split_front_matter(text: str, dropped: Dropped) -> tuple[str, str]:
    """Return the front matter's title and the text after it; a text that only begins with a rule keeps it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    found = FRONT.match(text[:LONGEST_FRONT])
    inner = found and (found[1] if found[1] is not None else found[2])
    if not found or (inner.strip() and not FIELD.search(inner)):
        return "", text
    if inner.strip():
        dropped["front_matter"].append(inner.strip())
    return _front_title(inner, toml=found[2] is not None), text[found.end() :]


def _front_title(inner: str, toml: bool) -> str:
    """The field `title`, also of a block that is not quite YAML, as an unquoted colon makes it."""
    import tomllib

    import yaml

    try:
        fields = tomllib.loads(inner) if toml else yaml.load(inner, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        fields = None
    value = fields.get("title") if isinstance(fields, dict) else None
    if isinstance(value, (str, int, float)) and str(value).strip():
        return " ".join(str(value).split())
    found = TITLE.search(inner) if fields is None else None
    return found[1].strip() if found else ""


def _tree(body: str) -> Any:
    import pyromark
    from pyromark import Options

    options = Options.ENABLE_TABLES | Options.ENABLE_FOOTNOTES | Options.ENABLE_MATH | Options.ENABLE_WIKILINKS
    body = body.encode("utf-8", "surrogatepass").decode("utf-8", "replace").replace("\0", "")
    page = pyromark.html(body, options=options)
    page = GENERIC.sub(lambda tag: tag[0] if tag[1].lower() in KNOWN_TAGS else f"&lt;{tag[1]}&gt;", page)
    tree = parse(f"<html><body>{page}</body></html>", comments=True)
    return None if tree is None else tree.find("body")


def _take_title(body: Any, named: str) -> str:
    """Take the first level-one heading out, unless the front matter names another title and it says something else."""
    heading = next(body.iter("h1"), None)
    if heading is None:
        return ""
    text = ATTRIBUTES.sub("", settle("".join(heading.itertext())))
    if len(text) > LONGEST_TITLE:
        return ""
    if not named or text == named:
        heading.drop_tree()
    return text


def _mend(body: Any) -> None:
    """Multiplication signs that were read as emphasis, the writer's own line breaks, attributes of headings."""
    for element in body.iter("em"):
        before = element.getprevious().tail if element.getprevious() is not None else element.getparent().text
        content = "".join(element.itertext())
        if (before or "")[-1:].isdigit() and content[:1].isdigit():
            element.text, element.tail = "*" + (element.text or ""), "*" + (element.tail or "")
    for paragraph in body.iter("p", "li", "dd"):
        if _keeps_lines("".join(paragraph.itertext())):
            for element in (e for e in paragraph.iter() if e.tag != "pre" and not _in_code(e)):
                element.text = element.text and element.text.replace("\n", BREAK)
                if element is not paragraph:
                    element.tail = element.tail and element.tail.replace("\n", BREAK)
    for code in body.iter("code"):
        code.text = code.text and code.text.translate(CODE_MARKS)
    for heading in body.iter(*HEADINGS):
        last = heading[-1] if len(heading) else None
        if last is None:
            heading.text = ATTRIBUTES.sub("", heading.text or "")
        else:
            last.tail = ATTRIBUTES.sub("", last.tail or "")


def _in_code(element: Any) -> bool:
    return next(element.iterancestors("pre"), None) is not None


def _keeps_lines(text: str) -> bool:
    lines = [line.strip() for line in text.strip().split("\n")][:-1]
    own = sum(len(line) < SHORT_LINE or line.endswith(SENTENCE_END) for line in lines)
    return bool(lines) and 2 * own > len(lines)


def _clean(text: str) -> str:
    """Take marks off that CommonMark leaves beside Chinese punctuation, notes without a definition, directives."""
    parts, fenced = [], False
    for block in text.split("\n\n"):
        fence = block.count("```") + block.count("~~~~")
        if not fenced and not fence:
            block = _clean_block(block)
        fenced ^= bool(fence % 2)
        if block.strip():
            parts.append(block)
    text = "\n\n".join(parts).strip()
    return text.translate(FROM_CODE) if any(chr(mark) in text for mark in FROM_CODE) else text


def _clean_block(block: str) -> str:
    block = SHORTCODE.sub("", block)
    block = WIKI_LINK.sub(r"\1", UNMATCHED.sub("", block))
    if len(LEFT_OVER.findall(block)) % 2 == 0:
        block = LEFT_OVER.sub("", block)
    block = GAP.sub("", CALLOUT.sub("", block))
    return "\n".join(line for line in block.split("\n") if not DIRECTIVE.fullmatch(line.strip()))
