"""`python -m kyara_utils report RECIPE`: the folder of pages, put together from what the finished steps left."""

import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kyara_utils.report.collect import FIGURES
from kyara_utils.report.site import executed, front, readable
from kyara_utils.report.site.browser import write_browser
from kyara_utils.report.site.entries import LIMIT, Found, path_of
from kyara_utils.report.site.shards import linked
from kyara_utils.report.style import MODEL_COLOURS, title_of
from kyara_utils.runs import read_csv
from kyara_utils.runs.env import find_root, runs_dir, writable
from kyara_utils.runs.files import replace_text
from kyara_utils.runs.finished import finished
from kyara_utils.runs.tables import Row

HERE = Path(__file__).parent
CITATION = re.compile(r"【id_[0-9a-f]{8}】")
PLOTS, EVAL = "09_plots", "08_eval"
TABLES = {  # tables of step 08 that are shown folded, with the columns that a reader can do without
    "claims": ("Published differences and their noise", ("benchmark", "metric")),
    "sums": ("Published averages from their parts", ()),
    "golden": ("Published figures reproduced by these scorers", ()),
}  # fmt: skip


def write_report(recipe: str, limit: int = LIMIT) -> Path:
    """Write `runs/RECIPE/report/` anew from the recipe's finished steps and return its first page.

    limit: rows that can be looked at; of more an even sample is shown. Raises `KyaraError` where nothing is finished.
    """
    found = finished(recipe)
    folder = runs_dir(find_root()) / recipe / "report"
    shutil.rmtree(folder, ignore_errors=True)
    writable(folder / "data", "the report's folder")
    shutil.copytree(HERE / "assets", folder / "assets")
    facts = write_browser(found, folder / "data", limit, lambda **story: render("story", **story))
    notebooks = sorted((folder.parent / "notebooks").glob("[0-9]*.ipynb"))
    pages = {"recipe": recipe, "notebooks": [path.stem for path in notebooks]}
    for name, values in _pages(found, folder, facts).items():
        replace_text(folder / f"{name}.html", render(name, page=name, **pages, **values))
    for path in notebooks:
        cells = {"cells": executed.cells_of(path, pages["notebooks"]), "notebook": path.stem}
        replace_text(folder / f"{path.stem}.html", render("notebook", page="notebooks", **pages, **cells))
    return folder / "index.html"


def _pages(found: Found, folder: Path, facts: Row) -> dict[str, Row]:
    """What each page's template is given."""
    return {
        "index": {
            "asked": front.asked(found), "result": front.result(found), "examples": front.examples(found),
            "funnel": front.funnel(found),
        },
        "rows": facts,
        "figures": {"figures": _figures(found, folder)},
        "evaluation": _evaluation(found),
        "cards": {"cards": _cards(found)},
        "notebooks": {},
    }  # fmt: skip


def _figures(found: Found, folder: Path) -> list[Row]:
    """{file, title, name, table} of the figures of step 09, copied beside the pages."""
    pictures, data = path_of(found, PLOTS, "figures"), path_of(found, PLOTS, "data")
    if not pictures or not data:
        return []
    shutil.copytree(pictures, folder / "figures")
    shutil.copytree(data, folder / "tables")
    return [
        {"name": name, "title": title_of(pictures / f"{name}.png"), "table": table}
        | readable.plain_table(read_csv(data / f"{table}.csv")[:200])
        for name, (_, table) in FIGURES.items()
        if (pictures / f"{name}.png").exists()
    ]


def _evaluation(found: Found) -> Row:
    names = ("scores", "contamination", "differences", "pairwise", "card")
    rows = {name: front.table_of(found, EVAL, name) for name in names}
    more = [
        (title, readable.plain_table(front.table_of(found, EVAL, name), out)) for name, (title, out) in TABLES.items()
    ]
    return {
        "scores": readable.score_table(rows["scores"]), "seen": readable.score_table(rows["contamination"]),
        "differences": readable.difference_table(rows["differences"]), "pairs": readable.pair_table(rows["pairwise"]),
        "card": readable.card_tables(rows["card"]), "more": [(title, table) for title, table in more if table["rows"]],
    }  # fmt: skip


def _cards(found: Found) -> list[Row]:
    cards = []
    for name in ("dataset_card", "preference_card", "model_card"):
        if path := path_of(found, PLOTS, name):
            head, body = executed.card(path.read_text(encoding="utf-8"))
            cards.append({"title": name.replace("_", " "), "head": head, "body": body, "anchor": name})
    return cards


def render(template: str, **values: Any) -> str:
    """A page or fragment `template` as HTML; everything that is given as text is escaped."""
    return environment().get_template(f"{template}.html.jinja").render(**values)


@cache
def environment() -> Environment:
    """Templates of the pages: undefined names are errors, all text is escaped."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"), undefined=StrictUndefined, autoescape=True, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {"cited": cited, "html": Markup, "short": readable.short_number}
    made.globals |= {"colours": MODEL_COLOURS}
    return made


def cited(text: Any) -> Markup:
    """Text with each citation 【id】 as a button that leads to its passage."""
    return Markup(
        linked(str(text), CITATION, lambda one: f'<button class="cite" data-cite="{one[1:-1]}">{one}</button>')
    )
