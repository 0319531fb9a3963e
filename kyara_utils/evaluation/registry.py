"""Which real benchmarks there are, where their questions come from, and why one was not run.

Nothing is bundled: questions come from a local folder (`folder`, else `$KYARA_EVAL_DATA`) or from the Hub. What is in
neither place is "not run" with a reason; a miniature never stands in for it.

Local layout: `FOLDER/<name>/*` or `FOLDER/<name>.*`, as JSON Lines, JSON, CSV, TSV or Parquet (also .gz), with the
columns of the Hub dataset. Files of a dataset with one subject a file are called `<subject>_test.csv`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kyara_utils.evaluation.scoring import LETTERS

Row = dict[str, Any]
ENV = "KYARA_EVAL_DATA"
FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
SPLITS = ("_test", "_dev", "_val", "_validation", "_train", "-test")


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    `hub` is the dataset's Hub name ("" for none), `config` its subset ("*" for one per subject); `n` items are
    expected (0: not checked); `reader` turns a dataset's row into an item, or None for a row that does not take part;
    `score_with` names the function or module of this room that turns answers into outcomes.
    """

    name: str
    hub: str
    config: str
    split: str
    licence: str
    n: int
    protocol: str
    score_with: str
    reader: Callable[[Row, str], Row | None] | None = None


@dataclass(frozen=True)
class Loaded:
    """Questions, or None with the reason; `note` says what a reader must know about the questions that are there."""

    benchmark: Benchmark
    items: list[Row] | None
    source: str = ""
    reason: str = ""
    note: str = ""


def _exam(row: Row, subject: str) -> Row | None:
    """TMMLU+ row {question, A–D, answer}; TMMLU's keep the options inside the question."""
    known = {letter: str(row[letter]) for letter in LETTERS if row.get(letter) is not None}
    subject = row.get("subject") or subject
    item = {"subject": subject, "question": str(row["question"]), "answer": str(row["answer"]).strip(" ()").upper()}
    return item | (known if len(known) == len(LETTERS) else {})


def _redux(row: Row, subject: str) -> Row | None:
    """MMLU-Redux as ZeroEval builds it: rows marked `ok`, and wrong keys with the letter given instead.

    Its own set {config, choices, correct_answer (a choice's text)} is built already. A row whose key is none of the
    four choices does not take part.
    """
    options = dict(zip(LETTERS, row["choices"], strict=True))
    fixed = str(row.get("correct_answer") or "").strip()
    if "error_type" not in row:
        answer = next((letter for letter, text in options.items() if text.strip() == fixed), "")
    elif row["error_type"] == "ok":
        answer = LETTERS[int(row["answer"])]
    else:
        answer = fixed.upper() if row["error_type"] == "wrong_groundtruth" else ""
    if answer not in LETTERS:
        return None
    subject = row.get("subject") or row.get("config") or subject
    return {"subject": subject, "question": row["question"], **options, "answer": answer}


def _gsm8k(row: Row, subject: str) -> Row | None:
    return {"question": row["question"], "answer": str(row["answer"]).rsplit("####", 1)[-1].replace(",", "").strip()}


def _plain(row: Row, subject: str) -> Row | None:
    """Rows with a question (or problem) and an answer (or solution)."""
    question = row["question"] if "question" in row else row["problem"]
    return {"question": str(question), "answer": str(row["answer"] if "answer" in row else row["solution"])}


def _crux(row: Row, subject: str) -> Row | None:
    return {"code": row["code"], "input": row["input"], "answer": row["output"]}


def _zebra(row: Row, subject: str) -> Row | None:
    return {"puzzle": row["puzzle"], "size": row["size"], "answer": row["solution"]}


EXAM, ZERO = (
    "letter log-probability, zero-shot",
    "ZeroEval: reasoning and answer as JSON, zero-shot, greedy, 4096 tokens",
)
BENCHMARKS = {
    entry.name: entry
    for entry in (
        Benchmark("tmmlu", "", "", "test", "Apache-2.0", 3343, EXAM, "backends.choose", _exam),
        Benchmark("tmmlu_plus", "ikala/tmmluplus", "*", "test", "MIT", 0, EXAM, "backends.choose", _exam),
        Benchmark(
            "mmlu_redux", "yuchenlin/zero-eval", "mmlu-redux", "test", "CC-BY-4.0", 2778, ZERO, "zeroeval", _redux
        ),
        Benchmark("gsm8k", "openai/gsm8k", "main", "test", "MIT", 1319, ZERO, "zeroeval", _gsm8k),
        Benchmark(
            "math_l5", "AI-MO/aimo-validation-math-level-5", "", "train", "unstated", 721, ZERO, "zeroeval", _plain
        ),
        Benchmark("crux", "cruxeval-org/cruxeval", "", "test", "MIT", 800, ZERO, "zeroeval", _crux),
        Benchmark(
            "zebra_logic", "allenai/ZebraLogicBench-private", "grid_mode", "test", "gated", 1000, ZERO, "zebra", _zebra
        ),
        Benchmark("mt_bench", "", "", "", "Apache-2.0", 80, "GPT-4 grades 1–10", "mt_bench"),
        Benchmark("mt_bench_tw", "", "", "", "unstated", 80, "GPT-4 grades 1–10", "mt_bench"),
        Benchmark("alignbench", "", "", "", "unstated", 683, "GPT-4 grades 1–10 by rule", "alignbench"),
        Benchmark("alpaca_eval", "", "", "", "CC-BY-NC-4.0", 805, "pairwise, length-controlled", "alpaca"),
        Benchmark("arena_hard", "", "", "", "Apache-2.0", 500, "pairwise, Bradley–Terry", "arena"),
    )
}


def load_benchmark(name: str, folder: str | Path = "", hub: bool = False) -> Loaded:
    """Return the questions of a benchmark from the local folder, else (with `hub`) from the Hub or its cache.

    Items: {id, subject?, question, A–D?, answer} or the benchmark's own fields; ids are unique. `hub=False` reads no
    network. An unknown name is not run either, and the reason lists the known ones.
    """
    benchmark = BENCHMARKS.get(name)
    if benchmark is None:
        unknown = Benchmark(name, "", "", "", "", 0, "", "")
        return Loaded(unknown, None, reason=f"not run: no benchmark {name}; known: {', '.join(BENCHMARKS)}")
    if benchmark.reader is None:
        fix = f"its prompts and judge are in kyara_utils.evaluation.{benchmark.score_with}"
        return Loaded(benchmark, None, reason=f"not run: {name} needs a judge; {fix}")
    place = str(folder or os.environ.get(ENV, ""))
    files = local_files(name, Path(place)) if place else []
    where = f"{place}/{name}" if files else f"hub {benchmark.hub}"
    if not files and not (hub and benchmark.hub):
        return Loaded(benchmark, None, reason=_absent(benchmark, place))
    try:
        return _checked(benchmark, _read_files(files) if files else _read_hub(benchmark), where)
    except Exception as error:  # readers raise many kinds; each means that this benchmark was not run
        why = (str(error).splitlines() or [""])[0][:200]
        return Loaded(benchmark, None, reason=f"not run: {name} of {where}: {type(error).__name__}: {why}")


def _absent(benchmark: Benchmark, place: str) -> str:
    looked = f"no {benchmark.name} in {place}" if place else f"no data folder given ({ENV} is not set)"
    on_hub = f", and the Hub ({benchmark.hub}) was not asked" if benchmark.hub else ""
    return f"not run: {looked}{on_hub}"


def local_files(name: str, folder: Path) -> list[Path]:
    """Files of a benchmark below the data folder, sorted: its own folder first, else files of its name."""
    inside = [path for path in sorted((folder / name).rglob("*")) if _format(path) and not path.name.startswith(".")]
    chosen = [path for path in inside if _is_test(path)] or inside
    if name == "tmmlu":  # beside the questions lie models' responses
        chosen = [path for path in chosen if path.name.startswith("questions")] or chosen
    return chosen or [path for path in sorted(folder.glob(f"{name}.*")) if _format(path)]


def _is_test(path: Path) -> bool:
    return "test" in path.name.split(".")[0]


def _format(path: Path) -> str:
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    return FORMATS.get(suffixes[-1], "") if suffixes and path.is_file() else ""


def _read_files(files: list[Path]) -> list[tuple[Row, str]]:
    """Rows with the subject their file's name gives; no copy of the questions stays in the datasets cache."""
    from datasets import load_dataset

    rows = []
    with TemporaryDirectory() as cache:
        for path in files:
            kind = _format(path)
            options: Row = {"keep_default_na": False} if kind == "csv" else {}  # an option may well read "None"
            if ".tsv" in path.suffixes:
                options["sep"] = "\t"
            data = load_dataset(kind, data_files=str(path), split="train", cache_dir=cache, **options)
            rows.extend((row, _subject(path)) for row in data)
    return rows


def _subject(path: Path) -> str:
    stem = path.name.split(".")[0]
    for ending in SPLITS:
        stem = stem.removesuffix(ending)
    return "" if stem in ("questions", "test", "data") else stem


def _read_hub(benchmark: Benchmark) -> list[tuple[Row, str]]:
    from datasets import get_dataset_config_names, load_dataset

    configs = get_dataset_config_names(benchmark.hub) if benchmark.config == "*" else [benchmark.config or None]
    return [
        (row, config or "") for config in configs for row in load_dataset(benchmark.hub, config, split=benchmark.split)
    ]


def _checked(benchmark: Benchmark, rows: list[tuple[Row, str]], where: str) -> Loaded:
    """Give every item an id of its own and say when their number is not the published one."""
    items: dict[str, Row] = {}
    for number, (row, subject) in enumerate(rows):
        if (item := benchmark.reader(row, subject)) is None:
            continue
        parts = (item.get("subject"), row.get("id", number))
        name = "/".join(str(part) for part in parts if part not in (None, ""))
        name = name if name not in items else f"{name}#{number}"
        items[name] = {"id": name, **item}
    if not items:
        return Loaded(benchmark, None, reason=f"not run: {benchmark.name} of {where} holds no usable row")
    short = benchmark.n and len(items) != benchmark.n
    note = f"{len(items)} items where {benchmark.n} are published" if short else ""
    return Loaded(benchmark, list(items.values()), source=where, note=note)
