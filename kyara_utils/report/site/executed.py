"""Executed notebooks and Markdown cards as pages: prose, code, and the outputs as text and pictures, nothing active."""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
MOST = 20_000  # characters of one output
ANGLE = "\ue000"  # stands for < while Markdown is read, so that no markup within it is taken for such
LINK = re.compile(r'<a href="([^"]*)"[^>]*>(.*?)</a>', re.S)
HEAD = re.compile(r"\A---\n(.*?)\n---\n", re.S)


def markdown(text: str, pages: Collection[str] = ()) -> str:
    """Markdown as HTML; markup inside it is shown as text. Of the links those into the web stay, and those to notebooks
    that are among `pages`; what else they lead to is not in the report's folder."""
    import pyromark

    page = pyromark.html(text.replace("<", ANGLE), options=pyromark.Options.ENABLE_TABLES).replace(ANGLE, "&lt;")
    page = re.sub(r"<(/?)h([1-5])>", lambda found: f"<{found[1]}h{int(found[2]) + 1}>", page)  # the page has its own h1
    return LINK.sub(lambda found: _link(found[1], found[2], pages), page)


def _link(target: str, text: str, pages: Collection[str]) -> str:
    stem = Path(target).stem
    target = f"{stem}.html" if stem in pages and target.endswith(".ipynb") else target
    known = target.startswith(("https://", "http://")) or target == f"{stem}.html"
    return f'<a href="{target}">{text}</a>' if known else text


def card(text: str) -> tuple[str, str]:
    """(metadata, body as HTML) of a card with YAML front matter."""
    head = HEAD.match(text)
    return (head[1] if head else ""), markdown(text[head.end() :] if head else text)


def cells_of(path: Path, pages: Collection[str] = ()) -> list[Row]:
    """Cells {kind, html or source, outputs} of an executed notebook; an output is {text} or {image} in base64."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        return [_cell(cell, pages) for cell in notebook["cells"] if "".join(cell["source"]).strip()]
    except (KeyError, TypeError, ValueError) as error:
        raise KyaraError(f"{path} is no executed notebook ({error}); delete it or run its step again") from error


def _cell(cell: Row, pages: Collection[str]) -> Row:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return {"kind": "prose", "html": markdown(source, pages), "outputs": []}
    outputs = [shown for output in cell.get("outputs", []) if (shown := _output(output))]
    return {"kind": "code", "source": source, "outputs": outputs}


def _output(output: Row) -> Row:
    data: dict[str, Any] = output.get("data", {})
    if "image/png" in data:
        return {"image": "".join(data["image/png"]).replace("\n", ""), "text": ""}
    if "text/markdown" in data:
        return {"html": markdown("".join(data["text/markdown"])), "text": "", "image": ""}
    text = "".join(output.get("text") or data.get("text/plain") or output.get("traceback") or "")
    lines = [line.rpartition("\r")[2] for line in ANSI.sub("", text).split("\n")]  # a progress line's last state
    shown = "\n".join(lines).strip("\n")
    return {"text": shown[:MOST] + " …" * (len(shown) > MOST), "image": ""} if shown else {}
