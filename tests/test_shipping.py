"""What a recipe ships of its ledger: enough to make the same rows anywhere, no more, and nothing that misleads."""

import json
import random
import sqlite3
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
import yaml
from teacher import Teacher

from kyara_utils.__main__ import main
from kyara_utils.knowledge.chunks.chunk import Chunk
from kyara_utils.knowledge.embedders import unit
from kyara_utils.knowledge.index.open_index import EdgeIndex
from kyara_utils.knowledge.index.passages import held_passages
from kyara_utils.knowledge.index.recorded import RecordedIndex
from kyara_utils.llm import Model, Request, complete, connect, load_prompt, log_odds, score
from kyara_utils.llm.ask import label_logprobs, labels_of
from kyara_utils.llm.embedded import EmbeddedServer
from kyara_utils.llm.endpoints import load_models
from kyara_utils.llm.ledger import Call, Ledger, call_key
from kyara_utils.llm.protocol import render
from kyara_utils.llm.reading import read_response
from kyara_utils.llm.replay import read_calls
from kyara_utils.llm.shipping import cut_call
from kyara_utils.models import packages
from kyara_utils.models.packages import MODEL_FILES, packaged_gguf
from kyara_utils.runs import KyaraError
from kyara_utils.runs.manifest import write_json

ROOT = Path(__file__).resolve().parents[1]
STEPS = ("01_corpus_indexing", "02_rag_sft_synthesis", "03_math_personahub", "04_filtering")
LABELS = ("對", "錯")
SHIPPED = sorted((ROOT / "params").glob("*/calls.parquet"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A checkout with the recipe `taiwan` and the loopback teacher under the name `stub`; its runs beside it."""
    teacher = Teacher()
    for name in ("pipeline.yaml", "models.yaml"):
        (tmp_path / "params/taiwan").mkdir(parents=True, exist_ok=True)
        (tmp_path / "params" / name).write_bytes((ROOT / "params" / name).read_bytes())
    registry = yaml.safe_load((tmp_path / "params/models.yaml").read_text(encoding="utf-8"))
    registry["stub"] = {"base_url": teacher.url, "model": "m"}
    (tmp_path / "params/models.yaml").write_text(yaml.safe_dump(registry, allow_unicode=True), encoding="utf-8")
    monkeypatch.setenv("KYARA_ROOT", str(tmp_path))
    monkeypatch.setenv("KYARA_RUNS", str(tmp_path / "first"))
    shipped = tmp_path / "params/taiwan/calls.parquet"
    return SimpleNamespace(root=tmp_path, teacher=teacher, shipped=shipped, setenv=monkeypatch.setenv)


def store(place, runs="first") -> Path:
    return place.root / runs / "taiwan/calls.sqlite"


def work(place, runs="first", extra=0):
    """What a step does: texts and verdicts; return (texts, scores) and what it cost."""
    prompt, verdict = load_prompt("curation/tags"), load_prompt("curation/quality")
    asked = [f"第{n}題" for n in range(4 + extra)]
    with connect("stub", store(place, runs)) as client:
        texts = complete(client, prompt, [{"question": text} for text in asked], max_tokens=20)
        inputs = [{"question": text, "answer": "答案"} for text in asked[:4]]
        scores = [score(response, LABELS) for response in log_odds(client, verdict, inputs, LABELS)]
    return ([response.text for response in texts[:4]], scores), client.usage


def finished(place, runs, *names, ago=0):
    """Leave manifests as steps do."""
    done = {"finished": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time.time() - ago)), "seconds": 60.0}
    for step in names:
        write_json(store(place, runs).parent / step / "manifest.json", done)


def ship(place, runs="first", ago=0):
    """End steps 01 to 04, and export."""
    finished(place, runs, *STEPS, ago=ago)
    assert main(["calls", "taiwan", "--export", str(place.shipped), "--shipped"]) == 0


def test_a_new_run_takes_the_shipped_calls_and_asks_nobody(place):
    """The published rows must come out of a clean checkout whose reader has neither teacher nor key."""
    first, paid = work(place)
    ship(place)
    asked = place.teacher.asked
    again, usage = work(place, "second")
    assert again == first and None not in first[1] and len(set(first[0] + first[1])) > 2
    assert (paid["calls"], usage["calls"], usage["stored"], place.teacher.asked) == (8, 0, 8, asked)


def test_a_changed_request_asks_its_own_call_alone(place):
    """Whoever edits one prompt pays for that prompt."""
    work(place)
    ship(place)
    _, usage = work(place, "second", extra=1)
    assert (usage["calls"], usage["stored"]) == (1, 8)


def test_a_live_run_asks_again_beside_the_other(place):
    """A replay that is taken for a measurement of the teacher would prove nothing."""
    work(place)
    ship(place)
    place.setenv("KYARA_LIVE", "1")
    _, usage = work(place, "first/live")
    assert usage["calls"] == 8
    ship(place, "first/live")
    assert Path(place.root / "first/live/taiwan/calls.sqlite").is_file()


def test_only_calls_of_the_last_run_are_shipped(place, caplog):
    """Yesterday's experiments are in the same ledger; in the shipped file they would be ballast nobody can explain."""
    work(place, extra=3)
    with sqlite3.connect(store(place)) as db:
        db.execute("UPDATE uses SET at = at - 86400")
    work(place)
    ship(place)
    rows = [call for part in read_calls(place.shipped) for call in part]
    assert len(rows) == 8 and len(Ledger(store(place))) == 11 and "failed" not in caplog.text
    with sqlite3.connect(store(place)) as db:
        db.execute("DELETE FROM calls WHERE key = ?", (rows[0].key,))  # as after a call that failed for good
    ship(place)
    assert "1 calls have failed" in caplog.text


def test_of_later_steps_only_the_teachers_calls_are_shipped(place):
    """Step 08 asks the teacher as a ceiling; the models that a run trains are trained and asked anew by every run."""
    work(place)
    with sqlite3.connect(store(place)) as db:
        db.execute("UPDATE uses SET at = at - 86400")
    question = [Request([{"role": "user", "content": "開卷題"}])]
    with connect("stub", store(place)) as client:
        client.ask(question, progress=False, label="answers")
    with connect(Model("sft", client.model.base_url), store(place)) as client:
        client.ask(question, progress=False, label="answers")
    ship(place, ago=86400)
    assert json.loads(pq.read_metadata(place.shipped).metadata[b"kyara"])["models"] == [{"model": "stub", "calls": 8}]
    finished(place, "first", "08_eval")
    ship(place, ago=86400)
    assert json.loads(pq.read_metadata(place.shipped).metadata[b"kyara"])["models"] == [{"model": "stub", "calls": 9}]


def test_the_file_says_what_it_holds_and_names_no_path(place):
    """Licences and origins travel with the answers; the server's own path of a model file must not."""
    work(place)
    ship(place)
    facts = json.loads(pq.read_metadata(place.shipped).metadata[b"kyara"])
    tags, quality = load_prompt("curation/tags"), load_prompt("curation/quality")
    assert facts["stages"] == {f"{quality.name} 對/錯": 4, tags.name: 4}
    assert facts["models"] == [{"model": "stub", "calls": 8}]
    readme = place.shipped.with_name("README.md").read_text(encoding="utf-8")
    assert tags.name in readme and "stub" in readme and "CC BY 4.0" in readme
    bodies = [orjson.loads(call.response) for part in read_calls(place.shipped) for call in part]
    assert {key for body in bodies for key in body} == {"choices", "usage"}


def test_nothing_is_shipped_of_a_run_that_did_not_happen(place, capsys):
    """An empty file beside a recipe would send every reader to a teacher, and pass for a shipped run."""
    Ledger(store(place)).close()
    assert main(["calls", "taiwan", "--export", str(place.shipped), "--shipped"]) == 1
    assert "01_corpus_indexing is not done" in capsys.readouterr().err and not place.shipped.exists()


BODY = {
    "id": "x", "model": "/home/somebody/model.gguf", "timings": {"prompt_ms": 1.5},
    "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
}  # fmt: skip
TABLE = {"對": -0.25, " 對": -3.0, "嗯": -4.0, "錯": -5.5, "哦": -7.0, "呃": -6.5}


@pytest.mark.parametrize("without", [(), ("錯",), ("對", " 對"), ("對", " 對", "錯")])
@pytest.mark.parametrize("chat", [True, False])
def test_a_cut_table_gives_the_same_score(without, chat):
    """A label outside the listed words takes the lowest of them: cut without it, every threshold would move."""
    table = {token: value for token, value in TABLE.items() if token not in without}
    tops = [{"token": token, "logprob": value, "bytes": [1]} for token, value in table.items()]
    tables = {"content": [{"token": "對", "top_logprobs": tops}]} if chat else {"top_logprobs": [table]}
    answer = {"message": {"role": "assistant", "content": "對"}} if chat else {"text": "對"}
    body = BODY | {"choices": [{"finish_reason": "length", "logprobs": tables, "index": 0} | answer]}
    whole = Call("k", "m", "{}", json.dumps(body), 7, 1, 0.123456, 1, 1.5)
    cut = cut_call(whole, LABELS)
    before, after = (read_response("k", orjson.loads(call.response)) for call in (whole, cut))
    assert score(after, LABELS) == score(before, LABELS) and (score(after, LABELS) is None) == (len(without) == 3)
    assert len(after.logprobs[0]) < len(before.logprobs[0]) and "somebody" not in cut.response
    assert replace(after, logprobs=()) == replace(before, logprobs=())
    assert cut_call(whole).response.count("呃") == 1, "a table that no label is known for stays whole"


def test_a_stage_names_its_labels_and_other_names_hold_none():
    """A benchmark's stage whose name has a blank in it must not have its tables cut to a word of that name."""
    assert labels_of("curation/quality@2 好/差") == ("好", "差")
    assert labels_of("multiple choice") == labels_of("synthesis/answer@3") == labels_of("answers of a/b") == ()


def test_without_the_teacher_only_a_missing_call_fails(tmp_path, monkeypatch):
    """A reader who did not install the teacher replays; the first call that is really needed says what to install."""
    monkeypatch.setenv("KYARA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packages.util, "find_spec", lambda name: None)
    monkeypatch.setattr(packages, "_from_hub", lambda row: None)
    model = Model("small", package="qwen-0.5b")
    known, other = (Request([{"role": "user", "content": text}]) for text in "甲乙")
    with connect(model, tmp_path / "calls.sqlite") as client:
        path, body = render(model, known)
        answer = {"choices": [{"message": {"content": "有"}, "finish_reason": "stop"}]}
        row = (body.decode(), json.dumps(answer), 1, 1, 0.0, 1, 0.0)
        client.ledger.add([Call(call_key(client.identity, path, body), "small", *row)])
        assert client.ask([known], progress=False)[0].text == "有"
        with pytest.raises(KyaraError, match="qwen-0.5b is not installed.*pip install") as raised:
            client.ask([known, other], progress=False)
    assert "\n" not in str(raised.value)


class Noisy:
    """Vectors that differ from machine to machine, far more than real ones, so that a few searches show it."""

    name, dim = "noisy", 8

    def __init__(self, machine: int):
        self.noise = np.random.default_rng(machine)

    def passages(self, texts):
        same = np.ones((len(texts), self.dim)) + np.arange(self.dim)
        return unit(same + 0.1 * self.noise.standard_normal(same.shape))

    queries = passages


def test_a_recorded_search_finds_the_same_on_a_machine_that_ranks_otherwise(tmp_path):
    """One other document in a prompt is another call, and a shipped ledger does not hold it."""
    chunks = [Chunk(f"id_{n:08x}", f"doc_{n}", "題", "", f"第{n}段", n, 3, "zh-Hant") for n in range(40)]
    questions = [f"關於{word}" for word in "山海雲雨"]

    def found(machine, ledger, ids=range(40)):
        embedder, ids = Noisy(machine), [f"id_{n:08x}" for n in ids]
        passages = held_passages(chunks, embedder.passages([chunk.text for chunk in chunks]))
        with EdgeIndex.build(tmp_path / f"index{machine}", passages, embedder) as index:
            plain = [[hit.chunk_id for hit in hits] for hits in index.search_many(questions, 3)]
            return plain, RecordedIndex(index, ledger, ids).search_many([*questions, questions[0]], 3)

    ledger = Ledger(tmp_path / "calls.sqlite")
    here, first = found(1, ledger)
    there, again = found(2, ledger)
    assert here != there, "the noise must decide, or nothing is shown"
    assert again == first and first[4] == first[0] and len(ledger) == 4
    assert {hit.text for hit in first[0]} <= {chunk.text for chunk in chunks}
    found(3, ledger, ids=range(39))
    assert len(ledger) == 8, "another set of chunks is searched anew"
    ledger.close()


def sampled(path: Path, teacher: str, most: int = 12) -> list[Call]:
    """A seeded sample of a teacher's short greedy calls."""
    calls = [call for part in read_calls(path) for call in part if call.model == teacher]
    short = [call for call in calls if orjson.loads(call.request)["temperature"] == 0 and call.completion_tokens <= 24]
    return random.Random(0).sample(short, min(most, len(short)))


def alike(call: Call, body: dict) -> bool:
    """Whether an answer agrees with the stored one: the same order of the two labels, else the same first words."""
    stored, now = read_response("", orjson.loads(call.response)), read_response("", body)
    if not stored.logprobs:
        return stored.text.strip()[:8] == now.text.strip()[:8]
    lowest = min(stored.logprobs[0].values())
    labels = tuple(sorted({token.strip() for token, value in stored.logprobs[0].items() if value > lowest}))
    before, after = label_logprobs(stored, labels), label_logprobs(now, labels)
    return max(before, key=before.get) == max(after, key=after.get, default=None)


@pytest.mark.parametrize("teacher", ["qwen-0.5b", "qwen-1.5b"])
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_the_teacher_still_says_what_is_shipped(path, teacher):
    """Answers that the named model does not give would be a forgery. Processors differ in the last bits of a sum, and
    calls that are answered together differ from one alone, so one in five may end otherwise."""
    calls = sampled(path, teacher)
    if not calls:
        pytest.skip(f"nothing shipped of {teacher}")
    if not MODEL_FILES[teacher].installed:
        pytest.skip(f"{teacher} is not installed; make, or make models-1.5b, does")
    agreed = []
    with EmbeddedServer(packaged_gguf(teacher), parallel=1, context=4096) as server:
        for call in calls:
            ending = "/chat/completions" if "messages" in orjson.loads(call.request) else "/completions"
            headers = {"Content-Type": "application/json"}
            asking = urllib.request.Request(server.base_url + ending, call.request.encode(), headers)
            with urllib.request.urlopen(asking, timeout=300) as reply:
                agreed.append(alike(call, json.load(reply)))
    assert sum(agreed) >= 0.8 * len(agreed), f"{sum(agreed)} of {len(agreed)} agree"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_a_shipped_file_is_what_its_recipe_asks(path):
    """Each key is that of its request by the model that the file names, and of the size that a repository bears."""
    assert path.stat().st_size <= 25e6 and path.with_name("README.md").is_file()
    facts = json.loads(pq.read_metadata(path).metadata[b"kyara"])
    whole = {name for name, model in load_models().items() if model.dialect == "chat"}  # base models: cut vocabularies
    named = [row for row in facts["models"] if "sha256" in row and row["model"] in whole]
    known = {row["model"]: f"gguf {row['sha256']}" for row in named}
    assert facts["recipe"] == path.parent.name and known
    for call in (call for part in read_calls(path) for call in part if call.model in known):
        body = call.request.encode()
        ending = "/chat/completions" if b'"messages"' in body else "/completions"
        seed = orjson.loads(body).get("seed", 0)
        keys = (call_key(known[call.model], ending, body, sample, seed) for sample in range(100))
        assert call.key in keys, f"{call.key} is no call of {call.model}"
