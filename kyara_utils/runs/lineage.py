"""The row passport: from any row's id back to the documents, prompts, calls and verdicts behind it, and on to its fate.

`python -m kyara_utils.runs.lineage ROW_ID` reads the tables, manifests and the call store that a recipe's steps left,
and knows no other room: `meta`, `verdicts` and a reject's `row` are JSON, taken apart by the names of their keys.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from kyara_utils.runs import manifest
from kyara_utils.runs.calls import read_calls
from kyara_utils.runs.env import find_root, runs_dir
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing
from kyara_utils.runs.passport import render_html, render_text
from kyara_utils.runs.places import find_places, place_of, reading, resolve_id, rows_where, tables_of
from kyara_utils.runs.tables import Row

__all__ = ["lineage", "read_calls", "render_html", "render_text"]
CALL_KEYS = ("call_id", "call_ids", "calls")
CITING_KEYS = ("hits", "digests", "context")  # of `meta` or a draft: chunks that were shown, parents or not
CHILDREN = 50  # a passport lists so many; the rest are counted


def lineage(recipe: str, row_id: str) -> Row:
    """Return everything known about one row of a recipe; `row_id` may be the beginning of one id only.

    Keys: `recipe`, `id`; `nodes`, the row and then its ancestors by distance, each {id, depth, row, parents, call_ids,
    places}, a place being {step, table, rule, detail, added} in the order of the steps; `passages` {id: row} of chunks
    that were retrieved; `calls` {call id: call} and `calls_note`, why they are not at hand; `children`, rows that name
    this one as a parent, nodes again, and `more_children`, how many are left out; `readers`, steps that had the row
    among their inputs {step, source, table, current}; `manifests` of the steps on the way. Raises `KyaraError` for a
    recipe without tables, an unknown or ambiguous id, a damaged table.
    """
    folder = runs_dir(find_root()) / recipe
    tables = tables_of(folder, recipe)
    row_id = resolve_id(tables, row_id, recipe)
    nodes = _walk(tables, row_id)
    cited = {name for node in nodes for name in _cited(node["row"])} - {node["id"] for node in nodes}
    passages = {name: places[0]["row"] for name, places in find_places(tables, cited).items()}
    calls, note = read_calls(folder / "calls.sqlite", [name for node in nodes for name in node["call_ids"]])
    children, more = _children(tables, row_id)
    done = {path.name: manifest.read(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    readers = _readers(done, nodes[0], children)
    steps = {place["step"] for node in nodes + children for place in node["places"]} | {r["step"] for r in readers}
    return {
        "recipe": recipe, "id": row_id, "nodes": nodes, "passages": passages, "calls": calls, "calls_note": note,
        "children": children, "more_children": more, "readers": readers,
        "manifests": [{"step": step} | (done.get(step) or {}) for step in sorted(steps)],
    }  # fmt: skip


def _walk(tables: list[Path], row_id: str) -> list[Row]:
    """The row and all its ancestors by distance, each once, so a loop of parents ends."""
    nodes: dict[str, Row] = {}
    level, depth = [row_id], 0
    while level:
        places = find_places(tables, level)
        nodes |= {name: _node(name, depth, places.get(name, [])) for name in level}
        named = dict.fromkeys(parent for name in level for parent in nodes[name]["parents"])
        level, depth = [name for name in named if name not in nodes], depth + 1
    return list(nodes.values())


def _node(name: str, depth: int, places: list[Row]) -> Row:
    """One row from all its places; later steps add columns to it, so the last value of a column counts."""
    whole: Row = {}
    kept = [place for place in places if not place["rule"]] or places[:1]
    for place in kept:
        place["added"] = [key for key, value in place["row"].items() if whole and whole.get(key) != value]
        whole |= place["row"]
    bodies = [place["row"] for place in places]
    return {
        "id": name, "depth": depth, "row": whole,
        "parents": list(dict.fromkeys(parent for body in bodies for parent in _parents(body) if parent != name)),
        "call_ids": list(dict.fromkeys(call for body in bodies for call in _call_ids(body))),
        "places": [{"added": []} | {key: value for key, value in place.items() if key != "row"} for place in places],
    }  # fmt: skip


def _parents(body: Row) -> list[str]:
    """Ids that a row or draft comes from: `parents`, the chunk that a draft carries, the document of `meta`."""
    chunk, meta = body.get("chunk"), body.get("meta")
    named = list(body["parents"]) if isinstance(body.get("parents"), list) else []
    named += [part.get(key) for part, key in ((chunk, "id"), (meta, "document")) if isinstance(part, dict)]
    return [name for name in named if isinstance(name, str) and name]


def _cited(body: Row) -> Iterator[str]:
    """Ids of chunks that were shown or retrieved on the way to a row."""
    for part in (body, body.get("meta")):
        for key in CITING_KEYS if isinstance(part, dict) else ():
            for item in part[key] if isinstance(part.get(key), list) else ():
                name = item.get("id") if isinstance(item, dict) else item
                if isinstance(name, str):
                    yield name


def _call_ids(body: Row) -> list[str]:
    """Values of the keys that name calls, wherever they stand in a row."""
    found, stack = [], [("", body)]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict):
            stack += reversed(list(value.items()))
        elif isinstance(value, list):
            stack += [(key, item) for item in reversed(value)]
        elif key in CALL_KEYS and isinstance(value, str):
            found.append(value)
    return found


def _children(tables: list[Path], row_id: str) -> tuple[list[Row], int]:
    """Rows that name this one as a parent, rejected drafts too, and how many beyond `CHILDREN` are left out."""
    named = sorted({name for path in tables for name in _naming_parent(path, row_id) if name} - {row_id})
    places = find_places(tables, named[:CHILDREN])
    return [_node(name, 1, places[name]) for name in named[:CHILDREN]], max(0, len(named) - CHILDREN)


def _naming_parent(path: Path, row_id: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with reading(path), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        if {"rule", "row"} <= set(schema.names):
            hits = rows_where(path, "row", lambda column: pc.match_substring(column, row_id))
            yield from (row["id"] for row in hits if row_id in _parents(place_of(path, row)["row"]))
        elif "parents" in schema.names and schema.field("parents").type == pa.list_(pa.string()):
            for batch in file.iter_batches(columns=["id", "parents"]):
                mask = pc.equal(pc.list_flatten(batch["parents"]), row_id)
                yield from batch["id"].take(pc.list_parent_indices(batch["parents"]).filter(mask)).to_pylist()


def _readers(done: dict[str, Row | None], node: Row, children: list[Row]) -> list[Row]:
    """Steps that had a table with the row among their inputs though no table of theirs names it or comes of it.

    `current` is False where they read an earlier version of that table.
    """
    named = {place["step"] for item in [node, *children] for place in item["places"]}
    found = []
    for place in () if "doc_id" in node["row"] else node["places"]:
        output = (done.get(place["step"]) or {}).get("outputs", {}).get(place["table"], {}).get("sha256")
        for step in sorted(done.keys() - named) if not place["rule"] else ():
            read = (done[step] or {}).get("key", {}).get("inputs", {}).get(place["step"], {}).get(place["table"])
            if read:
                current = output in (read, None)
                found.append({"step": step, "source": place["step"], "table": place["table"], "current": current})
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print a row's passport, write it as HTML where asked; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m kyara_utils.runs.lineage",
        description="Show what made a row of any step: documents, prompts, retrieval, model calls, verdicts, filters.",
    )
    parser.add_argument("row_id", metavar="ROW_ID", help="an id of any step's table, or the beginning of one")
    parser.add_argument("--recipe", default="smoke", help="folder of params/ and of runs/ (default: smoke)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write the passport as one offline HTML page")
    options = parser.parse_args(arguments)
    try:
        passport = lineage(options.recipe, options.row_id)
        print(render_text(passport), flush=True)
        if options.html:
            with replacing(options.html) as temporary:
                temporary.write_text(render_html(passport), encoding="utf-8")
            print(f"\nwritten: {options.html}")
    except KyaraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads the pipe has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
