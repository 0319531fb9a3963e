"""Vocabulary trimming, the command: a model with the tokens that given texts need, and the way back.

    python -m kyara_utils.models.trim cut google/gemma-2-2b-it SMALL --texts corpus/ conversations.parquet
    python -m kyara_utils.models.trim restore TRAINED WHOLE --source google/gemma-2-2b-it

The 256,000 embeddings of Gemma-2-2b are 2.4 GB in fp32 and the larger part of a small batch's work. SMALL may be a
recipe's `base_model`: everything after step 05 is then as small, and the texts are tokenised as before.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from kyara_utils.models.bases import MAPPING, as_folder, find_base
from kyara_utils.models.vocabulary_choice import SCRIPTS
from kyara_utils.models.vocabulary_trimming import restore_vocabulary, trim_vocabulary
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import read_any


def read_texts(paths: Iterable[Path]) -> list[str]:
    """Return the texts of .txt and .md files and all strings in .jsonl and .parquet rows; folders are searched."""
    found: list[str] = []
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.suffix in READERS) if path.is_dir() else [path]
        for file in files:
            if file.suffix not in READERS or not file.is_file():
                raise KyaraError(f"--texts: {file} is no folder and no {', '.join(READERS)} file")
            found += READERS[file.suffix](file)
    if not found:
        raise KyaraError("--texts: no text found; give the corpus and the rows that the model will read")
    return found


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


READERS: dict[str, Callable[[Path], list[str]]] = {
    ".md": lambda path: [path.read_text(encoding="utf-8")],
    ".txt": lambda path: [path.read_text(encoding="utf-8")],
    ".jsonl": lambda path: list(_strings(read_any(path))),
    ".parquet": lambda path: list(_strings(read_any(path))),
}


def main(arguments: list[str] | None = None) -> None:
    """Command line: cut, restore."""
    given = _arguments(arguments)
    source = find_base(given.source)
    if given.command == "restore":
        mapping = json.loads(given.mapping.read_text(encoding="utf-8")) if given.mapping else None
        print(restore_vocabulary(given.trained, as_folder(source), given.out, mapping))
        return
    mapping = trim_vocabulary(source, given.out, read_texts(given.texts), given.size, given.script)
    sizes = f"{_bytes(source):.2f} → {_bytes(given.out):.2f} GB"
    print(f"{mapping['full_size']:,} → {len(mapping['ids']):,} tokens, {sizes}")
    print(f"{mapping['texts']:,} texts, {mapping['tokens']:,} tokens: tokenised alike")


def _bytes(path: Path) -> float:
    files = [path] if path.is_file() else path.glob("*.safetensors")
    return sum(file.stat().st_size for file in files) / 1e9


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kyara_utils.models.trim", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    cutter = commands.add_parser("cut", help="write a model with fewer tokens")
    cutter.add_argument("source", help="gemma-3-270m, a .gguf of Gemma, a folder, or owner/model[@revision] of the Hub")
    cutter.add_argument("out", type=Path, help="folder, or .gguf for a GGUF")
    cutter.add_argument("--texts", type=Path, nargs="+", required=True, help="folders, .md .txt .jsonl .parquet")
    cutter.add_argument("--size", type=int, default=20480, help="tokens to keep (default: 20480)")
    cutter.add_argument("--script", choices=SCRIPTS, default=SCRIPTS[0], help="zh-Hant: no Simplified-only characters")
    back = commands.add_parser("restore", help="give a trimmed, perhaps trained model its whole vocabulary back")
    back.add_argument("trained", type=Path, help="folder of the trimmed model")
    back.add_argument("out", type=Path)
    back.add_argument("--source", required=True, help="the whole model, named as for cut")
    back.add_argument("--mapping", type=Path, help=f"default: {MAPPING} in the trained folder")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        main()
    except KyaraError as error:
        raise SystemExit(str(error)) from error
