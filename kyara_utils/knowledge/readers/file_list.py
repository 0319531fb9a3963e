"""The files of a folder in a fixed order, and for each that is not read the reason why not.

Real folders hold loops of links, pipes, folders that may not be opened, names in another encoding. Each is named in a
reject row; none stops the run. A link is followed unless what it points to is read under its own name.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kyara_utils.knowledge.readers.documents import SkipDocument
from kyara_utils.knowledge.readers.encodings import COMPRESSED

HELP = {  # what to do about a type that is not read
    **dict.fromkeys((".doc", ".rtf", ".wpd", ".pages"), "save it as .docx or .odt"),
    **dict.fromkeys((".ppt", ".key", ".odp"), "save it as .pptx"),
    **dict.fromkeys((".xls", ".xlsx", ".ods", ".numbers"), "save each sheet as .csv with a column for the text"),
    **dict.fromkeys((".mobi", ".azw3", ".fb2", ".djvu", ".chm"), "convert it to .epub or .pdf"),
    **dict.fromkeys((".zip", ".7z", ".rar", ".tar", ".tgz"), "unpack it"),
    **dict.fromkeys(
        (".rst", ".adoc", ".org", ".tex"), "convert it to .md, for example with pandoc, or rename it to .txt"
    ),
}


@dataclass(frozen=True)
class Found:
    """A file, or what stands in its place: `name` is the printable path in the folder, `skip` why it is not read."""

    path: Path
    name: str
    skip: SkipDocument | None = None


def printable(name: str) -> str:
    """A file name with the bytes that are no UTF-8 written as `\\xNN`, so that two such names stay two."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def kind_of(path: Path) -> tuple[str, str]:
    """(file type, printable name without type) of a file, compressed or not."""
    if path.suffix.lower() in COMPRESSED:
        path = path.with_suffix("")
    return path.suffix.lower(), printable(path.stem)


def files_of(root: Path, types: tuple[str, ...]) -> list[Found]:
    """All files of a folder sorted by name, those that are not read with the reason; one entry for a hidden folder."""
    if not root.is_dir():
        return [Found(root, printable(root.name))]
    seen_folders = {_identity(root.stat())}
    found = sorted(_walk(root, "", types, seen_folders), key=lambda item: item.name)
    own = {_identity(item.path.stat()) for item in found if item.skip is None and not item.path.is_symlink()}
    return [_once(item, own) for item in found]


def _identity(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino


def _once(item: Found, own: set[tuple[int, int]]) -> Found:
    """A link to a file that is read under its own name would give every document twice."""
    if item.skip or not item.path.is_symlink() or _identity(item.path.stat()) not in own:
        return item
    return Found(item.path, item.name, SkipDocument("symlink", "what it points to is read under its own name"))


def _walk(folder: Path, prefix: str, types: tuple[str, ...], seen: set[tuple[int, int]]) -> Iterator[Found]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError as error:
        yield Found(
            folder, prefix.rstrip("/") or ".", SkipDocument("unreadable", f"{error.strerror}; check its permissions")
        )
        return
    for entry in entries:
        name, path = prefix + printable(entry.name), Path(entry.path)
        try:
            state = entry.stat()
        except OSError as error:
            yield Found(path, name, SkipDocument("symlink", f"it points nowhere or to itself: {error.strerror}"))
            continue
        if entry.name.startswith("."):
            yield Found(path, name, SkipDocument("hidden", "names that start with a dot are left out"))
        elif stat.S_ISDIR(state.st_mode):
            yield from _inside(path, name, types, seen, state)
        else:
            yield Found(path, name, _reason(path, state, types))


def _inside(path: Path, name: str, types: tuple[str, ...], seen: set, state: os.stat_result) -> Iterator[Found]:
    if _identity(state) in seen:
        yield Found(path, name, SkipDocument("symlink", "the folder it points to is read already"))
        return
    seen.add(_identity(state))
    yield from _walk(path, name + "/", types, seen)


def _reason(path: Path, state: os.stat_result, types: tuple[str, ...]) -> SkipDocument | None:
    if not stat.S_ISREG(state.st_mode):
        return SkipDocument("file_type", "no regular file but a pipe, socket or device")
    kind = kind_of(path)[0]
    if kind in types:
        return None
    return SkipDocument("file_type", HELP.get(kind, f"{kind or 'a name without an extension'} is not read"))
