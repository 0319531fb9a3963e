"""The data behind the page of rows: a small index of all of them, and their stories and passages in shards."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kyara_utils.report.site import entries, stories
from kyara_utils.report.site.entries import TRAINING, Found, Table
from kyara_utils.report.site.shards import ShardWriter, codes_of, write_buckets, write_shard
from kyara_utils.runs import iter_rows
from kyara_utils.runs.tables import Row
from kyara_utils.text.normalise import search_text

STORIES, TEXTS, PASSAGES = 200, 2_000, 1_000  # rows, rows and passages of one shard
QUESTION = 300  # characters of a question in the index
FILTERS = ("kind", "source", "rule", "verdict")
FOLDED = ((0x41, 0x5B), (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0xFF01, 0xFF5F))


def write_browser(found: Found, folder: Path, limit: int, story_page: Callable[..., str]) -> Row:
    """Write the shards; return {shown, rows, filters {name: values}, tags} for the page.

    story_page: renders one row's fields as HTML. A row's story has its number in the index.
    """
    tables = entries.shown_tables(found, limit)
    ids = {row["id"] for table in tables for row in table.shown(["id"])}
    known, children = entries.fates(found, ids), entries.pairs_of(found, ids)
    told, texts = ShardWriter(folder, "stories", STORIES), ShardWriter(folder, "texts", TEXTS)
    index: dict[str, list[Any]] = {name: [] for name in ("id", "question", "lang", "score", "tags", *FILTERS)}
    wanted: set[str] = set()
    for table in tables:
        for row in table.shown():
            story = stories.story_of(table.kind, row)
            places, pairs = known.get(row["id"], []), children.get(row["id"], [])
            fate = entries.fate_lines(places, pairs if table.kind == TRAINING else [], found)
            enter(index, row["id"], table, story)
            told.add(story_page(id=row["id"], kind=table.kind, step=table.step, fate=fate, **story))
            texts.add(stories.text_of(story))
            wanted |= {story["document"], *story["context"]}
            wanted |= {item["id"] for name in ("hits", "digests") for item in story[name]}
    told.close()
    texts.close()
    return _close(found, folder, index, wanted, sum(table.rows for table in tables))


def enter(index: dict[str, list[Any]], name: str, table: Table, story: Row) -> None:
    """Enter a row in the columns of the index."""
    score = story["score"]
    values = {
        "id": name, "question": " ".join(story["question"].split())[:QUESTION], "lang": story["lang"],
        "score": None if score is None else round(score, 3), "tags": list(story["tags"]), "kind": table.kind,
        "source": story["source"], "rule": story["rule"], "verdict": stories.verdict_word(story),
    }  # fmt: skip
    for column, value in values.items():
        index[column].append(value)


def _close(found: Found, folder: Path, index: dict[str, list[Any]], wanted: set[str], rows: int) -> Row:
    """Write passages and index."""
    passages = list(_passages(found, wanted))
    buckets = -(-len(passages) // PASSAGES) or 1
    write_buckets(folder, "passages", passages, buckets)
    coded = {name: codes_of(index[name]) for name in (*FILTERS, "lang")}
    tags = codes_of([tag for row in index["tags"] for tag in row])["values"]
    places = {tag: place for place, tag in enumerate(tags)}
    columns = {name: index[name] for name in ("id", "question", "score")} | coded
    columns |= {"tags": {"values": tags, "rows": [[places[tag] for tag in row] for row in index["tags"]]}}
    shown = len(index["id"])
    sizes = {"stories": STORIES, "texts": TEXTS, "buckets": buckets, "fold": fold_table()}
    write_shard(folder, "index", {"rows": shown, "columns": columns} | sizes)
    return {"shown": shown, "rows": rows, "filters": {name: coded[name]["values"] for name in FILTERS}, "tags": tags}


def _passages(found: Found, wanted: set[str]) -> Iterator[tuple[str, Row]]:
    path = entries.path_of(found, "01_corpus_indexing", "chunks")
    for row in iter_rows(path, ["id", "title", "heading", "text", "path", "lang"]) if path else ():
        if row["id"] in wanted:
            yield row["id"], {name: row[name] or "" for name in ("title", "heading", "text", "path", "lang")}


def fold_table() -> Row:
    """{from, to}: characters and what stands for them in a search (`text.normalise.search_text`), one for one.

    Of the basic plane alone, since a script counts the others as two.
    """
    characters = [chr(code) for first, past in FOLDED for code in range(first, past)]
    folded = search_text("\n".join(characters)).split("\n")
    pairs = [pair for pair in zip(characters, folded, strict=True) if pair[0] != pair[1] and len(pair[1]) == 1]
    pairs = [(one, other) for one, other in pairs if ord(other) <= 0xFFFF]
    return {"from": "".join(one for one, _ in pairs), "to": "".join(other for _, other in pairs)}
