"""Documents out of a folder, a dump or a dataset, whatever their format and encoding.

Real folders hold Big5 pages, empty files, pictures and renamed binaries. Each file gives documents or a reject row
that says why not, so that the counts of step 01 add up. `READERS` says which function reads which type.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kyara_utils.knowledge.readers.documents import (
    MIN_CHARACTERS,
    Document,
    ReaderOptions,
    SkipDocument,
    skip_row,
)
from kyara_utils.knowledge.readers.encodings import DAMAGED
from kyara_utils.knowledge.readers.file_list import Found, files_of, kind_of
from kyara_utils.knowledge.readers.hub import PREFIX, read_hub
from kyara_utils.knowledge.readers.json_rows import read_json
from kyara_utils.knowledge.readers.mediawiki import read_mediawiki
from kyara_utils.knowledge.readers.office import read_docx, read_epub, read_odt, read_pptx
from kyara_utils.knowledge.readers.pages import TYPES as PAGE_TYPES
from kyara_utils.knowledge.readers.pages import Pages
from kyara_utils.knowledge.readers.pdf import read_pdf
from kyara_utils.knowledge.readers.row_files import read_jsonl, read_parquet
from kyara_utils.knowledge.readers.sheets import read_csv
from kyara_utils.knowledge.readers.texts import read_markdown_file, read_text_file
from kyara_utils.runs.errors import KyaraError

Items = Iterator[Document | dict[str, Any]]
Reader = Callable[[Path, str, str, ReaderOptions], Items]  # path, name without type, name in the folder, options
READERS: dict[str, Reader] = {
    ".md": read_markdown_file,
    ".markdown": read_markdown_file,
    ".mdx": read_markdown_file,
    ".txt": read_text_file,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".xml": read_mediawiki,
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".pptx": read_pptx,
    ".odt": read_odt,
    ".epub": read_epub,
}


def wanted() -> str:
    """The types that are read, in words."""
    return f"{', '.join((*READERS, *PAGE_TYPES))} files, also as .gz or .bz2"


def read_corpus(source: str | Path, text_field: str = "text", convert: str = "") -> Items:
    """Yield documents and reject rows, sorted by path; memory is bounded by one row, page or part of a text.

    `source` is a folder, one file, "bundled" for the articles that come with the package, or a dataset of the
    Hugging Face Hub (`hub.py`). `text_field` names the column of tables (`title` is used where there is one);
    `convert` is an OpenCC table for the reading text, "s2twp" for Taiwanese usage. `.xml` files are MediaWiki
    dumps. Raises `KyaraError` if the source does not exist or, at the end, if nothing in it could be read.
    """
    if str(source).startswith(PREFIX):
        yield from _some(read_hub(str(source), convert), f"no readable text in {source}; name another text field")
        return
    root = bundled_corpus() if source == "bundled" else Path(source)
    if not root.exists():
        raise KyaraError(f"the corpus {root} does not exist; give a folder of {wanted()}")
    items = _read_folder(root, ReaderOptions(text_field, convert))
    yield from _some(
        items, f"no readable text in {root}; it needs {wanted()}, with at least {MIN_CHARACTERS} characters"
    )


def first_documents(items: Items, most: int) -> Items:
    """Yield items up to the `most`-th document and the rows that belong to it; all of them for 0."""
    number = 0
    for item in items:
        number += isinstance(item, Document)
        if most and number > most:
            return
        yield item


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
    found = files_of(root, (*READERS, *PAGE_TYPES))
    pages = Pages.of(found)
    readers = READERS | dict.fromkeys(PAGE_TYPES, pages.read)
    for item in found:
        yield from _read_file(item, readers, options)
    yield from pages.rows()


def _read_file(item: Found, readers: dict[str, Reader], options: ReaderOptions) -> Items:
    """What the reader of the file's type yields, or the reason why it yields nothing, as one row."""
    kind, stem = kind_of(item.path)
    empty = True
    try:
        if item.skip or kind not in readers:
            raise item.skip or SkipDocument("file_type", f"not one of {wanted()}")
        for row in readers[kind](item.path, stem, item.name, options):
            empty = False
            yield row
        if empty:
            raise SkipDocument("empty", "no rows")
    except SkipDocument as why:
        yield skip_row(item.name, why)
    except UnicodeError as error:
        yield skip_row(item.name, SkipDocument("encoding", str(error)))
    except PermissionError as error:
        yield skip_row(item.name, SkipDocument("unreadable", f"{error.strerror}; check its permissions"))
    except DAMAGED as error:
        yield skip_row(item.name, SkipDocument("damaged", getattr(error, "strerror", None) or str(error)))
