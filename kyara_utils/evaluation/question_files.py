"""Questions of published data sets: from a local folder (`folder`, else `$KYARA_EVAL_DATA`) or from the Hub.

Nothing is bundled. What is in neither place is not run, with a reason; a miniature never stands in for it.
Local layout: `FOLDER/<name>/*` or `FOLDER/<name>.*`, as JSON Lines, JSON, CSV, TSV or Parquet (also .gz), with the
columns of the Hub dataset. Files of a dataset with one subject a file are called `<subject>_test.csv`.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from kyara_utils.evaluation.benchmark import Benchmark, Questions, Source
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

ENV = "KYARA_EVAL_DATA"
FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
SPLITS = ("_test", "_dev", "_val", "_validation", "_train", "-test")


class DatasetBenchmark(Benchmark):
    """A benchmark whose questions are the rows of a data set.

    `dataset` is its Hub name ("" for none), `config` its subset ("*" for one per subject), `n` the published number of
    items (0: not checked), `files` how the local files' names begin where others lie beside them.
    """

    config = ""
    split = "test"
    n = 0
    files = ""

    def item(self, row: Row, subject: str) -> Row | None:
        """Turn a dataset's row into an item, or None for a row that does not take part."""
        raise NotImplementedError

    def load(self, source: Source) -> Questions:
        """Read the local files, else the Hub where it may be asked."""
        place = str(source.folder or os.environ.get(ENV, ""))
        files = local_files(self.name, Path(place), self.files) if place else []
        if not files and not (source.hub and self.dataset):
            raise KyaraError(self._absent(place))
        where = f"{place}/{self.name}" if files else f"hub {self.dataset}"
        try:
            rows = list(_read_files(files) if files else _read_hub(self.dataset, self.config, self.split))
            items = list(self._items(rows))
        except Exception as error:  # readers raise many kinds; each means that this benchmark was not run
            why = (str(error).splitlines() or [""])[0][:200]
            raise KyaraError(f"{self.name} of {where}: {type(error).__name__}: {why}") from error
        if not items:
            raise KyaraError(f"{self.name} of {where} holds no usable row")
        note = f"{len(items)} items where {self.n} are published" if self.n not in (0, len(items)) else ""
        return Questions(source.draw(items, self.name), where, note)

    def _absent(self, place: str) -> str:
        looked = f"no {self.name} in {place}" if place else f"no data folder given ({ENV} is not set)"
        return looked + (f", and the Hub ({self.dataset}) was not asked" if self.dataset else "")

    def _items(self, rows: list[tuple[Row, str]]) -> Iterator[Row]:
        """Give every item an id of its own."""
        seen: set[str] = set()
        for number, (row, subject) in enumerate(rows):
            if (item := self.item(row, subject)) is None:
                continue
            parts = (item.get("subject"), row.get("id", number))
            name = "/".join(str(part) for part in parts if part not in (None, ""))
            name = name if name not in seen else f"{name}#{number}"
            seen.add(name)
            yield {"id": name, **item}


def local_files(name: str, folder: Path, prefix: str = "") -> list[Path]:
    """Files of a benchmark below the data folder, sorted: its own folder first, else files of its name.

    Of several splits the test's are taken, and of those the ones whose name begins with `prefix`.
    """
    inside = [path for path in sorted((folder / name).rglob("*")) if _format(path) and not path.name.startswith(".")]
    chosen = [path for path in inside if "test" in path.name.split(".")[0]] or inside
    chosen = [path for path in chosen if path.name.startswith(prefix)] or chosen
    return chosen or [path for path in sorted(folder.glob(f"{name}.*")) if _format(path)]


def _format(path: Path) -> str:
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    return FORMATS.get(suffixes[-1], "") if suffixes and path.is_file() else ""


def _read_files(files: list[Path]) -> Iterator[tuple[Row, str]]:
    """Rows with the subject their file's name gives; no copy of the questions stays in the datasets cache."""
    from datasets import load_dataset

    with TemporaryDirectory() as cache:
        for path in files:
            kind = _format(path)
            options: Row = {"keep_default_na": False} if kind == "csv" else {}  # an option may well read "None"
            if ".tsv" in path.suffixes:
                options["sep"] = "\t"
            data = load_dataset(kind, data_files=str(path), split="train", cache_dir=cache, **options)
            yield from ((row, _subject(path)) for row in data)


def _subject(path: Path) -> str:
    stem = path.name.split(".")[0]
    for ending in SPLITS:
        stem = stem.removesuffix(ending)
    return "" if stem in ("questions", "test", "data") else stem


def _read_hub(name: str, config: str, split: str) -> Iterator[tuple[Row, str]]:
    from datasets import get_dataset_config_names, load_dataset

    for one in get_dataset_config_names(name) if config == "*" else [config or None]:
        yield from ((row, one or "") for row in load_dataset(name, one, split=split))
