"""Documents out of a folder of files, whatever their format and encoding.

Real folders hold Big5 pages, empty files and renamed binaries. Each file gives documents or a reject row that
says why not, so that the counts of step 01 add up.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kyara_utils.knowledge.html_text import html_to_text
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import content_id, reject

STEP = "01_corpus_indexing"
FILE_TYPES = (".md", ".txt", ".html", ".htm", ".jsonl")
MIN_CHARACTERS = 40
ENCODINGS = ["utf_8", "utf_16", "big5", "cp950", "gb18030"]
BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
HEAD = 1 << 16  # bytes of a JSON Lines file that its encoding is judged by


@dataclass(frozen=True)
class Document:
    """One document; `id` is a content id of title and text, `path` is relative to the source folder."""

    id: str
    title: str
    text: str
    path: str


class Refused(Exception):
    """A file that gives no document; args are the rule and the detail of its reject row."""


def read_corpus(source: str | Path) -> Iterator[Document | dict[str, Any]]:
    """Yield documents and reject rows, sorted by path, holding one file at a time (one line of a .jsonl).

    `source` is a folder, one file, or "bundled" for the articles that come with the package. Raises
    `KyaraError` if it does not exist or, at the end, if nothing in it could be read.
    """
    root = bundled_corpus() if source == "bundled" else Path(source)
    if not root.exists():
        raise KyaraError(f"the corpus {root} does not exist; give a folder of {', '.join(FILE_TYPES)} files")
    base = root if root.is_dir() else root.parent
    found = False
    for path in _files(root):
        for item in _read_file(path, path.relative_to(base).as_posix()):
            found |= isinstance(item, Document)
            yield item
    if not found:
        raise KyaraError(
            f"no readable text in {root}; it needs {', '.join(FILE_TYPES)} files with at least "
            f"{MIN_CHARACTERS} characters"
        )


def bundled_corpus() -> Path:
    """The folder of the articles that come with the package."""
    from importlib.resources import files

    return Path(str(files("kyara_utils") / "data" / "corpus"))


def decode(data: bytes) -> str:
    """Decode text: byte order mark, then strict UTF-8, then UTF-16, Big5/CP950 or GB18030 by likelihood.

    Raises `Refused` ("empty", "binary" or "encoding").
    """
    if not data.strip():
        raise Refused("empty", "")
    text = _decode(data, _encoding(data))
    controls = sum(ord(c) < 32 and c not in "\t\n\r\f" for c in text[:HEAD])
    if controls > len(text[:HEAD]) // 100:
        raise Refused("binary", f"{controls} control characters")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _files(root: Path) -> list[Path]:
    """Files of the types read, without hidden ones, in an order that no file system changes."""
    if root.is_file():
        return [root]
    found = [p for p in root.rglob("*") if p.suffix.lower() in FILE_TYPES and p.is_file()]
    seen = [p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    return sorted(seen, key=lambda p: p.relative_to(root).as_posix())


def _read_file(path: Path, name: str) -> Iterator[Document | dict[str, Any]]:
    try:
        if path.suffix.lower() == ".jsonl":
            yield from _read_jsonl(path, name)
        else:
            yield _document(*_parse(path), path.stem, name)
    except Refused as why:
        yield _refuse(name, why)
    except OSError as error:
        yield _refuse(name, Refused("extraction_failed", error.strerror or str(error)))


def _refuse(name: str, why: Refused) -> dict[str, Any]:
    rule, detail = why.args
    return reject(STEP, rule, {"id": content_id(name, prefix="doc_"), "path": name}, detail)


def _parse(path: Path) -> tuple[str, str]:
    """Return (title, text) of a file that is one document."""
    text = decode(path.read_bytes())
    kind = path.suffix.lower()
    if kind == ".txt":
        return "", text
    if kind == ".md":
        return split_title(text)
    title, body = html_to_text(text)
    if not body:
        raise Refused("extraction_failed", "no main content found")
    return title, body


def split_title(text: str) -> tuple[str, str]:
    """Take the first level-one heading outside code fences out of a Markdown text."""
    lines, fenced = text.split("\n"), False
    for at, line in enumerate(lines):
        fenced ^= line.lstrip().startswith("```")
        if not fenced and line.startswith("# "):
            return line[2:].strip(" #"), "\n".join(lines[:at] + lines[at + 1 :])
    return "", text


def _document(title: str, text: str, fallback: str, name: str) -> Document:
    title, text = title.strip() or fallback, text.strip()
    if len(text) < MIN_CHARACTERS:
        raise Refused("too_short", f"{len(text)} characters, at least {MIN_CHARACTERS} are needed")
    return Document(content_id(title, text, prefix="doc_"), title, text, name)


def _read_jsonl(path: Path, name: str) -> Iterator[Document | dict[str, Any]]:
    with path.open("rb") as file:
        head = file.read(HEAD)
    if len(head) == HEAD and b"\n" in head:
        head = head[: head.rindex(b"\n") + 1]
    decode(head)
    encoding = _encoding(head)
    with path.open(encoding=encoding, errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _json_document(line, f"{path.stem} {number}", f"{name}#{number}")


def _json_document(line: str, fallback: str, name: str) -> Document | dict[str, Any]:
    try:
        line.encode("utf-8")
        row = json.loads(line)
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise Refused("extraction_failed", 'the line is not an object with a string field "text"')
        return _document(str(row.get("title") or ""), row["text"], fallback, name)
    except UnicodeEncodeError:
        return _refuse(name, Refused("encoding", "the line is not in the encoding of the file"))
    except json.JSONDecodeError as error:
        return _refuse(name, Refused("extraction_failed", f"not JSON: {error.msg}"))
    except Refused as why:
        return _refuse(name, why)


def _encoding(data: bytes) -> str:
    """Name the encoding of `data`; charset-normalizer judges only what is not UTF-8."""
    for mark, encoding in BOMS.items():
        if data.startswith(mark):
            return encoding
    try:
        data.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes

        best = from_bytes(data, cp_isolation=ENCODINGS).best()
    if best is None:
        raise Refused("binary" if b"\0" in data else "encoding", f"none of {', '.join(ENCODINGS)}")
    return best.encoding


def _decode(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Refused("encoding", f"not valid {encoding} at byte {error.start}") from error
