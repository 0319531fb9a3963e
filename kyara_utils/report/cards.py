"""Dataset card and model card: every number comes from a manifest or a score row, none is typed in.

Cards are what strangers read first, so they also say what the thing is not and under which licences its parts
stand.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError

from kyara_utils.report.data_sets import DataSet
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

Image = tuple[str | Path, str]
FOLDERS = re.compile(
    r"(?<![\w:/.…])(?:/|~/|\.\.?/|[A-Za-z]:\\)(?:[^\s,'\"\]}]*[/\\])?"
)  # of an absolute or relative path
TEMPLATES = Path(__file__).with_name("templates")
MEASURED = re.compile(r"[-−+]?\d")  # a cell of ours that holds a figure
DATA_TAGS = ("synthetic", "traditional-chinese", "retrieval-augmented-generation", "sft", "dpo")
PAIR_TAGS = ("synthetic", "traditional-chinese", "preference", "dpo", "trl")
PAIR_FILES = {"train": "preferences.parquet", "test": "held_out.parquet"}
EMPTY: Row = {  # a card without a run's facts: of a table that somebody else brings
    "repository": "", "sets": [], "columns": [], "example": "", "languages": [], "size": "", "licence": {},
    "sources": [], "writers": [], "funnel": [], "rules": [], "leaks": [], "cleaning": {}, "held_out": [],
    "vocabulary": {}, "pairs": {},
}  # fmt: skip


def _environment() -> Environment:
    """Undefined names are errors; data is escaped cell by cell."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    environment.filters |= {"cell": _cell, "share": _share, "plain": _plain, "finite": _finite, "private": _private}
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


def _private(value: Any) -> str:
    """A parameter as a card shows it: of a path on somebody's machine only the last name."""
    return FOLDERS.sub("…/", str(value))


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
    facts: Row | None = None,
) -> str:
    """Markdown card of a data set, with YAML front matter for the Hub.

    `manifests` are those of the steps that made it, in order (as `Run.finish` writes them); `languages` the
    rows {lang, rows} of language_distribution.csv; `figures` pairs (path as linked, caption); `note` a
    sentence of the author's; `facts` what `card_facts.data_facts` found. Raises KyaraError where a manifest lacks a
    field.
    """
    facts = EMPTY | (facts or {})
    values = {"name": name, "manifests": manifests, "languages": list(languages), "figures": list(figures)}
    head = data_metadata(name, facts, configurations(facts["sets"]))
    return _render("dataset_card.md.jinja", note=note, head=head, facts=facts, **values)


def preference_card(name: str, manifests: Sequence[Row], facts: Row, places: Mapping[str, str] = PAIR_FILES) -> str:
    """Markdown card of a set of preference pairs; `places` are the files of its splits as seen from the card.

    `manifests` are those of the steps that made it; `facts` what `pair_facts.pair_facts` found.
    """
    paths = [{"split": one.split, "path": places[one.split]} for one in facts["sets"]]
    files = {part["split"]: part["path"] for part in paths}
    configs = [{"config_name": "default", "data_files": paths}] if paths else []
    head = data_metadata(name, facts, configs, PAIR_TAGS)
    return _render("preference_card.md.jinja", name=name, manifests=manifests, facts=facts, files=files, head=head)


def data_metadata(name: str, facts: Row, configs: Sequence[Row], tags: Sequence[str] = DATA_TAGS) -> str:
    """The Hub's YAML metadata of a data set: languages and size as counted, its files as configurations."""
    from huggingface_hub import DatasetCardData

    licence = {key: value for key, value in facts["licence"].items() if key.startswith("license")}
    return DatasetCardData(
        language=facts["languages"] or None, pretty_name=name, configs=list(configs) or None,
        size_categories=[facts["size"]] if facts["size"] else None,
        task_categories=["text-generation", "question-answering"], tags=list(tags), **licence,
    ).to_yaml()  # fmt: skip


def configurations(sets: Sequence[DataSet]) -> list[Row]:
    """`configs` of a data set's front matter, without which the Hub's viewer mixes tables of different columns."""
    found: dict[str, list[Row]] = {}
    for one in sets:
        found.setdefault(one.name, []).append({"split": one.split, "path": file_of(one)})
    return [
        {"config_name": name} | ({"default": True} if name == sets[0].name else {}) | {"data_files": files}
        for name, files in found.items()
    ]


def file_of(one: DataSet) -> str:
    """Where a set's file lies in its repository."""
    return f"data/{one.name}/{one.split}.parquet"


def hub_name(base_model: str) -> str:
    """The base as a card names it: a Hub id without its revision; of a file or folder only the name, never its path."""
    if base_model == "gemma-3-270m":  # the pip package
        return "google/gemma-3-270m"
    name = base_model.partition("@")[0]
    return name if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith(".") else Path(name).name


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
    card: Iterable[Row] = (),
    contamination: Iterable[Row] = (),
    facts: Row | None = None,
) -> str:
    """Markdown card of a model, with YAML front matter (base_model, model-index) for the Hub.

    `model` is its name in the rows of `scores` (scores.csv, all models) and `pairs` (pairwise.csv); only its
    own finite scores enter the model-index. `miniature` marks every score without a `dataset` of its own as one on
    the bundled sets, which are no benchmarks. `card` (card.csv) are the published tables with ours beside them,
    `contamination` (contamination.csv) the scores of clean and seen items, of which the model's own are shown; neither
    enters the model-index. Published rows beside which nothing of ours ran are counted, not shown.
    `facts` is what `card_facts.model_facts` found, `datasets` are names on the Hub.
    `manifests` are those of the training steps. Raises KyaraError where the model was not scored or a field is missing.
    """
    table = [row for row in scores if row["benchmark"] != "pairwise"]
    if not any(row["model"] == model for row in table):
        known = ", ".join(dict.fromkeys(str(row["model"]) for row in table)) or "none"
        raise KyaraError(f"no scores of {model} (scored: {known}); rerun 08_eval")
    facts, own = EMPTY | (facts or {}), [row for row in table if row["model"] == model]
    head = model_metadata(
        name, base_model, datasets, own, miniature, facts["licence"].get("license", "unknown"), facts["languages"]
    )
    values = {"name": name, "base_model": base_model, "manifests": manifests, "scores": table, "head": head}
    seen, rows = [row for row in contamination if row["model"] == model], list(card)
    beside = [row for row in rows if any(MEASURED.match(str(cell)) for key, cell in row.items() if "ours" in key)]
    lists = {"pairs": list(pairs), "figures": list(figures), "card": beside, "contamination": seen}
    more = {"facts": facts, "datasets": list(datasets), "left": len(rows) - len(beside), "model": model}
    return _render("model_card.md.jinja", note=note, miniature=miniature, **values, **lists, **more)


def model_metadata(
    name: str,
    base_model: str,
    datasets: Iterable[str],
    scores: Iterable[Row],
    miniature: bool = True,
    licence: str = "unknown",
    languages: Sequence[str] = (),
) -> str:
    """The Hub's YAML metadata of a model, written by huggingface_hub itself: `model-index` from finite `scores` alone.

    Each result carries n, unscored items and the 95 % interval as `args` of its metric; values are percent.
    """
    from huggingface_hub import ModelCardData

    results = [_eval_result(row, miniature and not row.get("dataset")) for row in scores if _finite(row["value"])]
    data = ModelCardData(
        language=list(languages) or None, license=licence, library_name="transformers", pipeline_tag="text-generation",
        base_model=base_model, datasets=list(datasets) or None, model_name=name, eval_results=results or None,
    )  # fmt: skip
    return data.to_yaml()


def _eval_result(row: Row, miniature: bool) -> Any:
    from huggingface_hub import EvalResult

    n, unscored = int(row["n"]), int(row["unscored"])
    interval = [float(_share(row[end])) for end in ("low", "high") if _finite(row[end])]
    return EvalResult(
        task_type="text-generation",
        dataset_type=row.get("dataset") or ("kyara-miniature/" if miniature else "") + row["benchmark"],
        dataset_name=row["benchmark"] + (" (miniature, not a benchmark)" if miniature else ""),
        metric_type=str(row["metric"]),
        metric_value=float(_share(row["value"])),
        metric_name=f"{row['metric']}, %, n = {n}",
        metric_args={"n": n, "unscored": unscored, "interval_95": interval},
    )
