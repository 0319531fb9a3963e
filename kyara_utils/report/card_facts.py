"""What a card says beyond its tables: sets and columns, licences, sources, the funnel, leaks, what a model lost.

Everything is read from the manifests and tables of finished steps. A licence that cannot be told from them is
`unknown`, never guessed: whoever publishes has to name it.
"""

import json
import re
from itertools import chain, islice
from pathlib import Path
from typing import Any

import yaml

from kyara_utils.models.packages import MODEL_FILES
from kyara_utils.report.data_sets import CONVERSATIONS, CORPUS, DataSet, pair_sets, sets_of
from kyara_utils.report.site.entries import DPO, FILTERING, MATHS, PAIRS, SFT, SYNTHESIS, Found, path_of
from kyara_utils.runs import read_csv, trained_models
from kyara_utils.runs.env import find_root
from kyara_utils.runs.files import read_json
from kyara_utils.runs.schemas import stored_schema
from kyara_utils.runs.tables import Row

UNKNOWN, BUNDLED = "unknown", "cc-by-4.0"
GEMMA_TERMS = "https://ai.google.dev/gemma/terms"
GEMMA_TYPES = re.compile(r"gemma(2|3n?)?(_text)?")  # model types under the Gemma terms; Gemma 4 is Apache-2.0
LANGUAGES = {"zh-Hant": "zh", "zh-Hans": "zh", "en": "en", "mixed": "zh"}  # the Hub's ISO 639-1
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
PAIR_MODELS, OWN = ("chosen_model", "rejected_model"), ("sft_base", "sft", "dpo")  # of 06; what the run trains
SHOWN = 300  # characters of a text in the example row


def data_facts(found: Found, data: Path, repository: str = "", licence: str = "") -> Row:
    """Facts of the dataset card: `data` is 09's folder of tables, `repository` the set's name on the Hub.

    licence: the Hub's identifier, which then stands for that of the documents.
    """
    sets = sets_of(found)
    return {
        "repository": repository, "sets": sets, "columns": columns_of(sets), "example": example_of(sets),
        "languages": data_languages(data), "size": size_category(sets),
        "licence": data_licence(found, licence), "sources": _sources(found), "writers": _writers(found),
        "funnel": _funnel(_table(data, "funnel")), "rules": _table(data, "rules"), "leaks": _leaks(found),
        "cleaning": _cleaning(found, _table(data, "funnel")),
    }  # fmt: skip


def model_facts(found: Found, data: Path, model: str, repository: str = "", licence: str = "") -> Row:
    """Facts of the model card: held-out losses, the vocabulary's cut, the licence, how to load `repository`."""
    folder = trained_models(found).get(model, Path())
    losses = [row for row in csv_of(found, SFT, "held_out") if row["split"] == "all"]
    if model == "dpo" and (after := found[DPO]["metrics"].get("held_out")):
        losses = [*losses, {"model": "dpo", "loss": after, "n": losses[0]["n"] if losses else ""}]
    kept, full = read_json(folder / "config.json").get("vocab_size"), read_json(folder / "vocabulary.json")
    return {
        "repository": repository, "languages": data_languages(data), "held_out": losses,
        "licence": {"license": model_licence(folder, licence)},
        "vocabulary": {"kept": kept, "full": full["full_size"]} if "full_size" in full else {},
        "pairs": found.get(DPO, {}).get("metrics", {}),
    }  # fmt: skip


def data_licence(found: Found, given: str = "") -> Row:
    """{license, …} for the front matter: `other` with a name where parts of the set stand under several licences."""
    documents = given or (BUNDLED if _params(found, CORPUS).get("corpus", "bundled") == "bundled" else UNKNOWN)
    gemma = any("gemma" in model.lower() for writer in _writers(found) for model in writer["models"])
    other = {"license": "other", "documents": documents} | ({"license_link": GEMMA_TERMS} if gemma else {})
    if _params(found, FILTERING).get("open_sets") or _params(found, PAIRS).get("open_preferences"):
        return other | {"license_name": "several"}
    if gemma and documents != UNKNOWN:
        return other | {"license_name": f"{documents}-and-gemma-terms"}
    return {"license": documents, "documents": documents}


def model_licence(folder: Path, given: str = "") -> str:
    """The Hub's identifier of a trained model's licence: Gemma's terms bind what is trained from it; else `given`."""
    kind = str(read_json(folder / "config.json").get("model_type", ""))
    return "gemma" if GEMMA_TYPES.fullmatch(kind) else given or UNKNOWN


def data_languages(data: Path) -> list[str]:
    """The Hub's codes of the languages that the training rows are in, the most frequent first."""
    codes = [LANGUAGES.get(row["lang"], "") for row in _table(data, "language_distribution")]
    return [code for code in dict.fromkeys(codes) if code]


def size_category(sets: list[DataSet], name: str = CONVERSATIONS[0]) -> str:
    """The Hub's size category of one set, in all its splits."""
    rows = sum(one.count for one in sets if one.name == name)
    return next((name for limit, name in SIZES if rows < limit), "n>10M")


def _params(found: Found, step: str) -> Row:
    return found.get(step, {}).get("key", {}).get("params", {})


def _table(data: Path, name: str) -> list[Row]:
    return read_csv(path) if (path := data / f"{name}.csv").exists() else []


def csv_of(found: Found, step: str, name: str) -> list[Row]:
    """Rows of a finished step's CSV; none where there is none."""
    path = path_of(found, step, name)
    return read_csv(path) if path and path.suffix == ".csv" else []


def columns_of(sets: list[DataSet]) -> list[Row]:
    """{sets: names, columns: [(name, type)]}: each schema once."""
    schemas: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for one in {one.name: one for one in sets}.values():
        kinds = [(column.name, str(column.type).replace("element: ", "")) for column in stored_schema(one.paths[0])]
        schemas.setdefault(tuple(kinds), []).append(one.name)
    return [{"sets": names, "columns": columns} for columns, names in schemas.items()]


def example_of(sets: list[DataSet]) -> str:
    """The first training row as JSON, long texts cut."""
    rows = [row for one in sets[:1] for row in islice(one.rows(), 1)]
    return json.dumps(_cut(rows[0]), ensure_ascii=False, indent=1) if rows else ""


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= SHOWN else f"{value[:SHOWN]}…"
    if isinstance(value, list):
        return [_cut(item) for item in value]
    return {name: _cut(item) for name, item in value.items()} if isinstance(value, dict) else value


def _writers(found: Found) -> list[Row]:
    """{part, models} of the models whose words the set holds; what the run trained is named by its base."""
    base = known_as(str(_params(found, SFT).get("base_model", "")))
    rows = chain.from_iterable(one.rows(["id", *PAIR_MODELS]) for one in pair_sets(found))
    paired = dict.fromkeys(row[side] for row in rows for side in PAIR_MODELS)
    parts = [
        ("questions and answers", [_params(found, SYNTHESIS).get("model", "")]),
        ("maths", [_params(found, MATHS).get("model", "")]),
        ("answers of pairs", paired),
    ]
    shown = {one: f"{one}, trained from {base}" for one in OWN}
    named = [(part, [shown.get(one) or known_as(one) for one in names if one]) for part, names in parts]
    return [{"part": part, "models": models} for part, models in named if models]


def known_as(name: str) -> str:
    """A model's name in params/models.yaml with that under which others know it: its id, or its file's repository."""
    known = yaml.safe_load((find_root() / "params" / "models.yaml").read_text(encoding="utf-8")) or {}
    entry = known.get(name) or {}
    file = MODEL_FILES.get(entry.get("package", ""))
    real = file.hub if file else str(entry.get("model", ""))
    return f"{name} ({real})" if real not in ("", name) else name


def _sources(found: Found) -> list[tuple[str, Any]]:
    corpus, metrics = _params(found, CORPUS), found.get(CORPUS, {}).get("metrics", {})
    facts = [
        ("documents", f"{metrics.get('documents', 0):,} ({corpus.get('corpus', '')})" if corpus else ""),
        ("passages", f"{metrics['chunks']:,}" if "chunks" in metrics else ""),
        ("personas of the maths problems", _params(found, MATHS).get("personas", "")),
        ("open conversation sets", ", ".join(map(str, _params(found, FILTERING).get("open_sets", [])))),
        ("open preference sets", ", ".join(map(str, _params(found, PAIRS).get("open_preferences", [])))),
    ]
    return [(name, value) for name, value in facts if value]


def _funnel(rows: list[Row]) -> list[Row]:
    """{stage, rows_in, rows_out} over all sources, in order."""
    stages: dict[str, Row] = {}
    for row in rows:
        line = stages.setdefault(row["stage"], {"stage": row["stage"], "rows_in": 0, "rows_out": 0})
        for name in ("rows_in", "rows_out"):
            line[name] += int(row[name])
    return list(stages.values())


def _leaks(found: Found) -> list[Row]:
    """{step, texts, leaked, before, after}: the teacher's texts in the wrong script or with mainland terms."""
    names = {"texts": "texts", "leaked": "leaked", "before": "leak_rate", "after": "leak_rate_after"}
    steps = [step for step in (SYNTHESIS, MATHS) if "leak_rate" in found.get(step, {}).get("metrics", {})]
    return [{"step": step} | {name: found[step]["metrics"].get(key) for name, key in names.items()} for step in steps]


def _cleaning(found: Found, funnel: list[Row]) -> Row:
    """Rows removed for a benchmark item's words, rows only near one in meaning, share of documents set aside."""
    lost = [int(row["rows_in"]) - int(row["rows_out"]) for row in funnel if row["stage"] == "contamination"]
    outputs = found.get(FILTERING, {}).get("outputs", {})
    return {
        "removed": sum(lost) if lost else None, "near": outputs.get("review", {}).get("rows"),
        "set_aside": _params(found, CORPUS).get("unseen_share", 0.0),
    }  # fmt: skip
