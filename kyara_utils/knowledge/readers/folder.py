"""Documents out of a folder, a dump or a dataset, whatever their format and encoding.

Real folders hold Big5 pages, empty files and renamed binaries. Each file gives documents or a reject row that
says why not, so that the counts of step 01 add up.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kyara_utils.knowledge.readers.documents import (
    MIN_CHARACTERS,
    PART,
    Document,
    ReaderOptions,
    SkipDocument,
    documents,
    last_break,
    skip_row,
)
from kyara_utils.knowledge.readers.encodings import COMPRESSED, DAMAGED, decode, open_bytes, open_text
from kyara_utils.knowledge.readers.html_text import html_to_text
from kyara_utils.knowledge.readers.hub import PREFIX, read_hub
from kyara_utils.knowledge.readers.mediawiki import read_mediawiki
from kyara_utils.knowledge.readers.rows import read_csv, read_jsonl, read_parquet
from kyara_utils.runs.errors import KyaraError

FILE_TYPES = (".md", ".txt", ".html", ".htm", ".jsonl", ".csv", ".parquet", ".xml")
LONGEST_TITLE = 300  # characters; a longer line that starts with # is text
LONGEST_PAGE = 1 << 25  # bytes of an HTML page
WANTED = f"{', '.join(FILE_TYPES)} files, also as .gz or .bz2"
Items = Iterator[Document | dict[str, Any]]


def read_corpus(source: str | Path, text_field: str = "text", convert: str = "") -> Items:
    """Yield documents and reject rows, sorted by path; memory is bounded by one row, page or part of a text.

    `source` is a folder, one file, "bundled" for the articles that come with the package, or a dataset of the
    Hugging Face Hub (`hub_reader`). `text_field` names the column of tables (`title` is used where there is one);
    `convert` is an OpenCC table for the reading text, "s2twp" for Taiwanese usage. `.xml` files are MediaWiki
    dumps. Raises `KyaraError` if the source does not exist or, at the end, if nothing in it could be read.
    """
    if str(source).startswith(PREFIX):
        yield from _some(read_hub(str(source), convert), f"no readable text in {source}; name another text field")
        return
    root = bundled_corpus() if source == "bundled" else Path(source)
    if not root.exists():
        raise KyaraError(f"the corpus {root} does not exist; give a folder of {WANTED}")
    items = _read_folder(root, ReaderOptions(text_field, convert))
    yield from _some(items, f"no readable text in {root}; it needs {WANTED}, with at least {MIN_CHARACTERS} characters")


def bundled_corpus() -> Path:
    """The folder of the articles that come with the package."""
    from importlib.resources import files

    return Path(str(files("kyara_utils") / "data" / "corpus"))


def _some(items: Items, otherwise: str) -> Items:
    found = False
    for item in items:
        found |= isinstance(item, Document)
        yield item
    if not found:
        raise KyaraError(otherwise)


def _read_folder(root: Path, options: ReaderOptions) -> Items:
    base = root if root.is_dir() else root.parent
    for path in _files(root):
        name = path.relative_to(base).as_posix().encode("utf-8", "replace").decode()
        found = False
        try:
            for item in _read_file(path, name, options):
                found = True
                yield item
            if not found:
                raise SkipDocument("empty", "no rows")
        except SkipDocument as why:
            yield skip_row(name, why)
        except UnicodeError as error:
            yield skip_row(name, SkipDocument("encoding", str(error)))
        except DAMAGED as error:
            yield skip_row(name, SkipDocument("damaged", getattr(error, "strerror", None) or str(error)))


def _files(root: Path) -> list[Path]:
    """Files of the types read, without hidden ones, in an order that no file system changes."""
    if root.is_file():
        return [root]
    found = [p for p in root.rglob("*") if _kind(p)[0] in FILE_TYPES and p.is_file()]
    seen = [p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    return sorted(seen, key=lambda p: p.relative_to(root).as_posix())


def _kind(path: Path) -> tuple[str, str]:
    """(file type, name without type) of a file, compressed or not."""
    if path.suffix.lower() in COMPRESSED:
        path = path.with_suffix("")
    return path.suffix.lower(), path.stem


def _read_file(path: Path, name: str, options: ReaderOptions) -> Items:
    kind, stem = _kind(path)
    tables = {".jsonl": read_jsonl, ".csv": read_csv, ".parquet": read_parquet}
    if kind in tables:
        yield from tables[kind](path, stem, name, options)
    elif kind == ".xml":
        yield from read_mediawiki(path, name, options)
    elif kind in (".html", ".htm"):
        yield from _read_page(path, stem, name, options)
    elif kind in FILE_TYPES:
        yield from _read_text(path, stem, name, options, kind == ".md")
    else:
        raise SkipDocument("file_type", f"not one of {WANTED}")


def _read_page(path: Path, stem: str, name: str, options: ReaderOptions) -> Items:
    with open_bytes(path) as file:
        data = file.read(LONGEST_PAGE + 1)
    if len(data) > LONGEST_PAGE:
        raise SkipDocument("too_large", f"the page is longer than {LONGEST_PAGE} bytes")
    try:
        title, body = html_to_text(decode(data))
    except SkipDocument:
        raise
    except Exception as error:  # whatever an extractor stumbles on, it is this page that is broken
        raise SkipDocument("extraction_failed", f"{type(error).__name__}: {error}") from error
    if not body:
        raise SkipDocument("extraction_failed", "no main content found")
    yield from documents(title or stem, body, name, options)


def _read_text(path: Path, stem: str, name: str, options: ReaderOptions, markdown: bool) -> Items:
    """Read a text in parts of `PART` characters, so that a file larger than memory is no trouble."""
    number, carried, title, ended = 0, "", stem, False
    with open_text(path) as file:
        while not ended:
            block = file.read(PART - len(carried))
            text, carried, ended = carried + block, "", not block
            number += 1
            if markdown and number == 1:
                found, text = split_title(text)
                title = found or stem
            if not ended and len(text) > PART // 2:
                cut = last_break(text)
                text, carried = text[:cut], text[cut:]
            if number == 1 or text.strip():
                yield from _part(title, text, name if number == 1 else f"{name}#part{number}", options)


def _part(title: str, text: str, name: str, options: ReaderOptions) -> Items:
    """The documents of one part; a bad one must not end the reading of those that follow."""
    try:
        yield from documents(title, text, name, options)
    except SkipDocument as why:
        yield skip_row(name, why)


def split_title(text: str) -> tuple[str, str]:
    """Take the first level-one heading outside code fences out of a Markdown text."""
    lines, fenced = text.split("\n"), False
    for at, line in enumerate(lines):
        fenced ^= line.lstrip().startswith("```")
        if not fenced and line.startswith("# ") and len(line) <= LONGEST_TITLE:
            return line[2:].strip(" #"), "\n".join(lines[:at] + lines[at + 1 :])
    return "", text
