"""Dataset card, model card and the offline report: every number comes from a manifest or a score row, none is
typed in.

Cards are what strangers read first, so they also say what the thing is not and under which licences its parts
stand.
"""

import base64
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError

from kyara_utils.runs.errors import KyaraError

Row = dict[str, Any]
Image = tuple[str | Path, str]
TEMPLATES = Path(__file__).with_name("templates")


def _environment() -> Environment:
    """Undefined names are errors; HTML is escaped always, Markdown cell by cell."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=lambda name: name is not None and name.endswith(".html.jinja"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    environment.filters |= {"cell": _cell, "share": _share, "plain": _plain, "finite": _finite}
    return environment


def _plain(value: Any) -> str:
    """A value as a reader wants it: thousands commas for counts, at most four significant digits for
    fractions."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, float) and math.isnan(value):
        return "n/a"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _cell(value: Any) -> str:
    """A value inside a Markdown table or line: no pipe, line break or HTML of the data gets through."""
    text = " ".join(_plain(value).split())
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|")):
        text = text.replace(sign, safe)
    return text


def _share(value: Any) -> str:
    """A share in [0, 1] as percent with one digit; empty or NaN as n/a."""
    return f"{100 * float(value):.1f}" if _finite(value) else "n/a"


def _finite(value: Any) -> bool:
    return value not in ("", None) and math.isfinite(float(value))


def _render(template: str, **values: Any) -> str:
    try:
        return _environment().get_template(template).render(**values)
    except UndefinedError as error:
        raise KyaraError(f"the card cannot be written: {error}; rerun the step whose manifest lacks it") from error


def dataset_card(
    name: str,
    manifests: Sequence[Row],
    languages: Iterable[Row] = (),
    figures: Iterable[Image] = (),
    note: str = "",
    licence: str = "cc-by-4.0",
) -> str:
    """Markdown card of a data set, with YAML front matter for the Hub.

    `manifests` are those of the steps that made it, in order (as `Run.finish` writes them); `languages` the
    rows {lang, rows} of language_distribution.csv; `figures` pairs (path as linked, caption); `note` a
    sentence of the author's; `licence` the Hub's identifier. Raises KyaraError where a manifest lacks a
    field.
    """
    values = {"name": name, "manifests": manifests, "languages": list(languages), "figures": list(figures)}
    return _render("dataset_card.md.jinja", note=note, licence=licence, **values)


def model_card(
    name: str,
    model: str,
    base_model: str,
    manifests: Sequence[Row],
    scores: Iterable[Row],
    pairs: Iterable[Row] = (),
    figures: Iterable[Image] = (),
    datasets: Iterable[str] = (),
    note: str = "",
    miniature: bool = True,
) -> str:
    """Markdown card of a model, with YAML front matter (base_model, model-index) for the Hub.

    `model` is its name in the rows of `scores` (scores.csv, all models) and `pairs` (pairwise.csv); only its
    own finite scores enter the model-index. `miniature` marks every score as one on the bundled sets, which
    are no benchmarks. `manifests` are those of the training steps. Raises KyaraError where the model was not
    scored or a field is missing.
    """
    table = [row for row in scores if row["benchmark"] != "pairwise"]
    if not any(row["model"] == model for row in table):
        known = ", ".join(dict.fromkeys(str(row["model"]) for row in table)) or "none"
        raise KyaraError(f"no scores of {model} (scored: {known}); rerun 08_eval")
    values = {"name": name, "model": model, "base_model": base_model, "manifests": manifests, "scores": table}
    lists = {"pairs": list(pairs), "figures": list(figures), "datasets": list(datasets)}
    return _render("model_card.md.jinja", note=note, miniature=miniature, **values, **lists)


def html_report(title: str, sections: Iterable[Row], figures: Iterable[Image] = ()) -> str:
    """One HTML page that needs no network: tables and PNG figures are inside it, and all data is escaped.

    `sections` are {"heading": str, "text": str (optional), "rows": list of dicts (optional)}; `figures` pairs
    (path of a PNG, caption). A table's columns are those of its first row.
    """
    images = [{"data": _base64(Path(path)), "caption": caption} for path, caption in figures]
    parts = [{"text": "", "rows": []} | dict(section) for section in sections]
    return _render("report.html.jinja", title=title, sections=parts, figures=images)


def _base64(path: Path) -> str:
    try:
        return base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError as error:
        raise KyaraError(f"no figure {path}; draw it first with notebooks/09_plots.ipynb") from error
