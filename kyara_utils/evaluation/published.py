"""The judged benchmarks' own prompts and questions: where they are published, pinned, and fetched at run time.

Nothing of them is stored in this repository; several have no licence file. A file is taken from the folder that
KYARA_EVAL_DATA names, else from an earlier download, else from GitHub at the pinned commit, and checked either way.
"""

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing

DATA_VARIABLE = "KYARA_EVAL_DATA"
HOST = "https://raw.githubusercontent.com"
MOST_BYTES = 64 * 2**20
SECONDS = 60


@dataclass(frozen=True)
class PublishedFile:
    """One published file. An empty `sha256` is unverified: only `size` (bytes, 0 unknown) is held to then."""

    repository: str  # owner/name
    commit: str
    path: str
    sha256: str = ""
    size: int = 0
    licence: str = "none stated"
    n: int = 0  # rows, 0 where it holds none

    @property
    def place(self) -> Path:
        """Where the file lies under a data folder: owner+name/path."""
        return Path(self.repository.replace("/", "+")) / PurePosixPath(self.path)

    @property
    def url(self) -> str:
        """Address of the pinned version."""
        return f"{HOST}/{self.repository}/{self.commit}/{self.path}"


def _fastchat(path: str, size: int, n: int = 0) -> PublishedFile:
    folder = "fastchat/llm_judge/data/"
    return PublishedFile("lm-sys/FastChat", "0e6d3e4b", folder + path, size=size, licence="Apache-2.0", n=n)


def _tceval(path: str, size: int, n: int = 0) -> PublishedFile:
    return PublishedFile("mtkresearch/TCEval", "d654deee", f"mt_bench_tw/llm_judge/data/{path}", size=size, n=n)


def _align(path: str, sha256: str = "", size: int = 0, n: int = 0) -> PublishedFile:
    return PublishedFile("THUDM/AlignBench", "5b79d4a84e566db26e755c719935c62a0e1b0527", path, sha256, size, n=n)


REGISTRY = {
    "mt_bench_prompts": _fastchat("judge_prompts.jsonl", 10_449, 8),
    "mt_bench_questions": _fastchat("mt_bench/question.jsonl", 48_929, 80),
    "mt_bench_references": _fastchat("mt_bench/reference_answer/gpt-4.jsonl", 51_109, 30),
    "mt_bench_tw_prompts": _tceval("judge_prompts_for_mt_bench_tw.jsonl", 11_343, 8),
    "mt_bench_tw_questions": _tceval("mt_bench_tw/question.jsonl", 46_134, 80),
    "mt_bench_tw_references": _tceval("mt_bench_tw/reference_answer/human_w_gpt4_augmented.jsonl", 44_534, 46),
    "alignbench_questions": _align("data/data_v1.1_release.jsonl", size=968_763, n=683),
    "alignbench_judge": _align("judge.py"),
    "alignbench_definitions": _align("config/dimension_definition.json"),
    "alignbench_dimensions": _align(
        "config/dimension_set.json", "1024f71c275855896c5980032df0e79a7709be3e10817a539c61f4eb57fd515b", 417
    ),
    "alignbench_types": _align(
        "config/subcategory_question_mapping.json",
        "429f97d7044a27f329bbdd02ee162b6b3010118389621f71c07bdaaa54f668d2",
        1_484,
    ),
    "alignbench_temperatures": _align(
        "config/temperature.json", "a45c353ca21bf925796d51ee8ec527b4fcf1d1e80c3a934133f8ccdf235c97b3", 202
    ),
    "alpaca_prompt": PublishedFile(
        "tatsu-lab/alpaca_eval",
        "a023f53f41defc4dd0365862a9f5130bd274d835",
        "src/alpaca_eval/evaluators_configs/alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt",
        "784227e6dc2832fc08c43d2c8ea3a308e7523780187a1aaad2f85e30bac85f62",
        1_398,
        "Apache-2.0",
    ),
    "alpaca_baseline": PublishedFile(
        "tatsu-lab/alpaca_eval",
        "a023f53f41defc4dd0365862a9f5130bd274d835",
        "results/gpt4_1106_preview/model_outputs.json",
        size=1_899_765,
        licence="CC BY-NC 4.0",
        n=805,
    ),
    "arena_prompt": PublishedFile(
        "lmarena/arena-hard-auto",
        "7f1b7f5dd6ce53e1f8530220ceb452b7019a8056",  # still v0.1
        "config/judge_config.yaml",
        "8f6e2a641676ae1453ae6be149b549d92b739564a23a8db27b86c50999fa607e",
        2_370,
        "Apache-2.0",
    ),
    "arena_questions": PublishedFile(
        "lmarena/arena-hard-auto",
        "6c82720015d5da7b8795b809b91f63ef74abbf6a",
        "data/arena-hard-v0.1/question.jsonl",
        size=272_075,
        licence="Apache-2.0",
        n=500,
    ),
    "arena_baseline": PublishedFile(
        "lmarena/arena-hard-auto",
        "6c82720015d5da7b8795b809b91f63ef74abbf6a",
        "data/arena-hard-v0.1/model_answer/gpt-4-0314.jsonl",
        licence="Apache-2.0",
        n=500,
    ),
}


def fetch(name: str, folder: Path) -> Path:
    """Return the local path of a registered file, downloading it under `folder` when it is nowhere yet.

    Raises KyaraError, one line with the fix, for an unknown name, a file that differs from the pinned one, and when
    it cannot be downloaded.
    """
    if name not in REGISTRY:
        raise KyaraError(f"no published file {name!r}; known: {', '.join(REGISTRY)}")
    file = REGISTRY[name]
    for root in data_folders(folder):
        if (path := root / file.place).is_file():
            _verify(file, _local(path), f"{path}")
            return path
    body = _download(file)
    _verify(file, body, file.url)
    path = Path(folder) / file.place
    with replacing(path) as temporary:
        temporary.write_bytes(body)
    return path


def data_folders(folder: Path) -> list[Path]:
    """Where a published file may lie: the folder that KYARA_EVAL_DATA names, then `folder`."""
    return [Path(root) for root in (os.environ.get(DATA_VARIABLE), folder) if root]


def locate(name: str, folder: Path, online: bool) -> Path:
    """`fetch`, but nothing is downloaded unless `online`. Raises KyaraError naming the missing file."""
    place = REGISTRY[name].place
    if not online and not any((root / place).is_file() for root in data_folders(folder)):
        raise KyaraError(f"no {place.as_posix()} in the data folder")
    return fetch(name, folder)


def _local(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KyaraError(f"cannot read {path}: {error.strerror}; fix its permissions") from error


def _verify(file: PublishedFile, body: bytes, where: str) -> None:
    found = hashlib.sha256(body).hexdigest()
    if file.sha256 and found != file.sha256:
        raise KyaraError(f"{where} has SHA-256 {found[:8]}…, not {file.sha256[:8]}…; fetch commit {file.commit} again")
    if not file.sha256 and file.size and len(body) != file.size:
        raise KyaraError(f"{where} has {len(body)} bytes, not {file.size}; fetch commit {file.commit} again")


def _download(file: PublishedFile) -> bytes:
    fix = f"put it at ${DATA_VARIABLE}/{file.place.as_posix()} or go online"
    try:
        with urllib.request.urlopen(file.url, timeout=SECONDS) as answer:  # the scheme is fixed above
            body = answer.read(MOST_BYTES + 1)
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        raise KyaraError(f"cannot download {file.url} ({getattr(error, 'reason', error)}); {fix}") from error
    if len(body) > MOST_BYTES:
        raise KyaraError(f"{file.url} is larger than {MOST_BYTES >> 20} MiB; {fix}")
    return body
