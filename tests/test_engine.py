"""The engine under fire: refusals, stalls, broken bodies, kills, budgets, batches and replays; no row is lost."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from kyara_utils.__main__ import main
from kyara_utils.llm import Client, Model, Request, complete, load_prompt, until_accepted
from kyara_utils.llm.formats import fitting
from kyara_utils.llm.ledger import Ledger
from kyara_utils.llm.limits import Gate, Pace
from kyara_utils.llm.plan import Plan, Planned, _Sum, estimate, planned_calls
from kyara_utils.llm.protocol import fold_system, render
from kyara_utils.llm.replay import export_calls, import_calls
from kyara_utils.llm.transport import backoff, retry_after
from kyara_utils.runs import KyaraError
from kyara_utils.runs.env import find_root
from kyara_utils.runs.steps import load_steps, resolved

BENCH = Path(__file__).parent / "bench"
sys.path.insert(0, str(BENCH))
from stub import stub  # noqa: E402

SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def questions(n: int, **options) -> list[Request]:
    return [Request([{"role": "user", "content": f"第{i}題"}], **options) for i in range(n)]


def ask(url, path, requests, budget=0.0, check=None, reasks=1, **fields):
    with Client(Model("stub", url, model="m", **fields), Ledger(path), budget=budget) as client:
        return client.ask(requests, progress=False, check=check, reasks=reasks), client.usage


def asking(url, ledger, *options) -> list[str]:
    return [sys.executable, str(BENCH / "asking.py"), url, str(ledger), *map(str, options)]


def test_random_refusals_cost_attempts_and_no_row(tmp_path):
    """A client that aborts, or sleeps for everybody, at each 429 turns seconds into minutes."""
    with stub(refuse=0.2, latency=0.002) as (url, stats):
        responses, usage = ask(url, tmp_path / "s.sqlite", questions(200), parallel=32)
        seen = stats()
    assert all(response.text and not response.error for response in responses)
    assert (usage["calls"], usage["failed"], seen["repeated"]) == (200, 0, 0)
    assert usage["attempts"] == seen["requests"] == 200 + seen["refused"] and seen["refused"] > 10


def test_a_rate_limit_is_learnt_from_retry_after(tmp_path):
    """Whoever runs into a token bucket with all connections again and again mostly collects refusals."""
    with stub(bucket=100, burst=20) as (url, stats):
        responses, _ = ask(url, tmp_path / "s.sqlite", questions(120), parallel=32)
        seen = stats()
    assert all(response.text for response in responses)
    assert seen["answered"] == 120 and seen["refused"] < 120, seen


def test_every_row_is_accounted_for_among_faults(tmp_path):
    """One bad answer must not take its neighbours with it, nor be believed."""
    with stub(malformed=0.1, hang=0.02, cut=0.05, reset=0.05) as (url, stats):
        responses, usage = ask(
            url, tmp_path / "s.sqlite", questions(200, schema=SCHEMA), reasks=2, parallel=32, timeout=1.0
        )
        seen = stats()
    good = [response for response in responses if not response.error]
    assert len(responses) == 200 and len(good) + usage["failed"] == 200 and len(good) >= 190
    assert all("answer" in json.loads(response.text) for response in good)
    assert all(response.error.startswith("format:") for response in responses if response.error)
    assert seen["broken"] > 10 and usage["reasked"] > 5


def test_kill_and_rerun_asks_only_what_was_under_way(tmp_path):
    """After `kill -9` at any point: no row lost or glued to another question, at most one concurrency asked again."""
    with stub(latency=0.02, seed=1) as (url, stats):
        undisturbed = tmp_path / "whole.txt"
        options = ("--rows", 400, "--parallel", 16)
        subprocess.run(asking(url, tmp_path / "w.sqlite", *options, "--out", undisturbed), check=True, stdout=-3)
        whole = stats()["answered"]
    with stub(latency=0.02, seed=2) as (url, stats):
        for part in (0.25, 0.6):
            process = subprocess.Popen(asking(url, tmp_path / "k.sqlite", *options))
            while stats()["answered"] < part * 400:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
        again = tmp_path / "again.txt"
        subprocess.run(asking(url, tmp_path / "k.sqlite", *options, "--out", again), check=True, stdout=-3)
        seen = stats()
    assert whole == seen["answered"] == 400 and seen["repeated"] <= 2 * 16, seen
    assert again.read_bytes() == undisturbed.read_bytes()


@pytest.mark.parametrize(
    "what", ["system", "revision", "temperature", "schema", "seed", "document", "model", "max_tokens"]
)
def test_whatever_changes_is_asked_again(tmp_path, what):
    """A stale answer to a changed request is a wrong result that looks right (others forget the system prompt)."""
    request = Request([{"role": "system", "content": "S"}, {"role": "user", "content": "文件"}], schema=SCHEMA)
    changed = {
        "system": replace(request, messages=[{"role": "system", "content": "T"}, request.messages[1]]),
        "document": replace(request, messages=[request.messages[0], {"role": "user", "content": "文件。"}]),
        "temperature": replace(request, temperature=0.1),
        "revision": request,
        "schema": replace(request, schema={**SCHEMA, "minProperties": 1}),
        "seed": replace(request, seed=1),
        "max_tokens": replace(request, max_tokens=10),
    }
    other = {"model": "n"} if what == "model" else {"revision": "2026-11"} if what == "revision" else {}
    with stub() as (url, stats):
        ask(url, tmp_path / "s.sqlite", [request])
        _, kept = ask(url, tmp_path / "s.sqlite", [request])
        with Client(Model("stub", url, **{"model": "m"} | other), Ledger(tmp_path / "s.sqlite")) as client:
            client.ask([changed.get(what, request)], progress=False)
    assert (kept["stored"], kept["calls"]) == (1, 0)
    assert (client.usage["stored"], client.usage["calls"]) == (0, 1)


def test_the_same_model_elsewhere_replays(tmp_path):
    """A server moves, a replica joins: what was paid for stays paid for."""
    with stub() as (url, _), stub() as (other, stats):
        ask(url, tmp_path / "s.sqlite", questions(3))
        _, usage = ask([other, url], tmp_path / "s.sqlite", questions(3))
        assert (usage["stored"], usage["calls"], stats()["requests"]) == (3, 0, 0)


def test_equal_rows_under_way_are_one_call(tmp_path):
    """Two rows with the same question must not pay for it twice because neither was answered yet."""
    with stub(latency=0.05) as (url, stats):
        responses, usage = ask(url, tmp_path / "s.sqlite", questions(1) * 5)
        assert stats()["requests"] == 1
    assert len({response.text for response in responses}) == 1 and usage["calls"] == 1


def test_replicas_share_the_work_and_a_dead_one_is_left_alone(tmp_path):
    """A list of addresses is one model: each gets work, and one that is down costs a pause, not rows."""
    with stub(latency=0.01) as (one, first), stub(latency=0.01) as (two, second):
        urls = [one, two, "http://127.0.0.1:9/v1"]
        responses, usage = ask(urls, tmp_path / "s.sqlite", questions(100), parallel=16)
        assert min(first()["answered"], second()["answered"]) > 20
    assert all(response.text for response in responses) and usage["calls"] == 100


def test_nobody_there_is_one_line(tmp_path):
    """A hundred thousand rows that each wait for a server that was never started are a lost night."""
    with pytest.raises(KyaraError, match="nobody answers at http://127.0.0.1:9/v1"):
        ask("http://127.0.0.1:9/v1", tmp_path / "s.sqlite", questions(1000), parallel=64)


def test_failures_are_kept_apart_and_asked_again(tmp_path):
    """A failure that is stored as an answer is believed for ever; one that is not stored cannot be counted."""
    with stub(reset=1.0) as (url, _):
        responses, usage = ask(url, tmp_path / "s.sqlite", questions(2), parallel=2)
    ledger = Ledger(tmp_path / "s.sqlite")
    assert usage["failed"] == 2 and len(ledger) == 0
    assert [(row["model"], row["calls"], row["failures"]) for row in ledger.totals()] == [("stub", 0, 2)]
    assert all("after" in response.error and "attempts" in response.error for response in responses)


def test_budget_stops_cleanly_and_goes_on_when_raised(tmp_path):
    """Money is the one resource that a rerun does not give back."""
    prices = {"price_in": 1000.0, "price_out": 1000.0, "parallel": 4}
    with stub(latency=0.005) as (url, stats):
        with pytest.raises(KyaraError, match=r"the budget of \$1 for stub is used up .* raise it and rerun"):
            ask(url, tmp_path / "s.sqlite", questions(100), budget=1.0, **prices)
        with pytest.raises(KyaraError, match="is used up"):  # what is stored counts: a loop of reruns stays in budget
            ask(url, tmp_path / "s.sqlite", questions(100), budget=1.0, **prices)
        paid = len(Ledger(tmp_path / "s.sqlite"))
        _, usage = ask(url, tmp_path / "s.sqlite", questions(100), budget=1000.0, **prices)
    cost = usage["cost"] / usage["calls"]
    assert 1.0 / cost - 3 <= paid <= 1.0 / cost and (usage["stored"], usage["calls"]) == (paid, 100 - paid)


def test_bad_format_is_asked_again_with_the_parsers_error(tmp_path):
    """A model that is told what was wrong fixes it; a second silent try just fails again."""
    seen = []

    def check(text: str) -> str:
        seen.append(text)
        return "缺少「結論」" if len(seen) == 1 else ""

    with stub() as (url, _):
        (response,), usage = ask(url, tmp_path / "s.sqlite", questions(1), check=check)
    calls = {call.key: json.loads(call.request) for call in Ledger(tmp_path / "s.sqlite").calls()}
    assert not response.error and len(response.call_ids) == 2 and usage["reasked"] == 1
    asked = calls[response.call_id]["messages"]
    assert asked[1] == {"role": "assistant", "content": seen[0]} and "缺少「結論」" in asked[2]["content"]


def test_a_prompts_own_schema_reaches_the_server(tmp_path):
    """A schema that stands in the prompt file and not in the request constrains nothing."""
    with stub() as (url, _):
        with Client(Model("stub", url, model="m"), Ledger(tmp_path / "s.sqlite")) as client:
            complete(client, load_prompt("synthesis/expand"), [{"question": "為什麼？"}], reasks=0)
    (call,) = Ledger(tmp_path / "s.sqlite").calls()
    schema = json.loads(call.request)["response_format"]["json_schema"]["schema"]
    assert schema.pop("additionalProperties") is False
    assert schema == load_prompt("synthesis/expand", "en").schema and schema["required"] == ["search_query"]


def test_schema_check_survives_hostile_json():
    """Deep brackets overflow a recursive parser; the row is a format failure, not a crash."""
    assert fitting('{"answer": "a"}', SCHEMA) == ('{"answer": "a"}', "")
    assert "not JSON" in fitting("[" * 200_000, SCHEMA)[1] and "not JSON" in fitting("{" * 5000 + "}" * 5000, SCHEMA)[1]
    assert "required" in fitting("{}", SCHEMA)[1] and "not JSON" in fitting('{"answer": "a', SCHEMA)[1]


def test_batch_files_go_out_and_come_back(tmp_path):
    """Half the price, a day's wait: the stage stops with the file's name, and goes on once the result lies there."""
    model = Model("cheap", "https://example.invalid/v1", model="m", batch=True)
    requests = questions(3)

    def run():
        with Client(model, Ledger(tmp_path / "calls.sqlite")) as client:
            return client.ask(requests, progress=False)

    with pytest.raises(KyaraError, match="3 calls of cheap wait in .*jsonl; submit it"):
        run()
    (path,) = (tmp_path / "batch").glob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["url"] for line in lines} == {"/v1/chat/completions"} and len(
        {line["custom_id"] for line in lines}
    ) == 3
    rows = [_batch_result(line, n) for n, line in enumerate(lines)]
    rows[1] = {"custom_id": lines[1]["custom_id"], "response": {"status_code": 500, "body": {}}, "error": None}
    path.with_name(f"{path.stem}.output.jsonl").write_text("\n".join(map(json.dumps, reversed(rows))))
    with pytest.raises(KyaraError, match="1 calls of cheap wait"):
        run()
    (second,) = set((tmp_path / "batch").glob("*.jsonl")) - {path, path.with_name(f"{path.stem}.output.jsonl")}
    retry = _batch_result(json.loads(second.read_text()), 1)
    second.with_name(f"{second.stem}.output.jsonl").write_text(json.dumps(retry))
    assert [response.text for response in run()] == ["answer 0", "answer 1", "answer 2"]


def _batch_result(line, n):
    choice = {"message": {"content": f"answer {n}"}, "finish_reason": "stop"}
    body = {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    return {
        "id": f"b{n}",
        "custom_id": line["custom_id"],
        "response": {"status_code": 200, "body": body},
        "error": None,
    }


def test_a_shipped_ledger_replays_without_key_server_or_model(tmp_path, monkeypatch):
    """A reader without an account reruns the notebooks; one changed prompt asks that prompt's calls alone."""
    monkeypatch.setenv("SOME_KEY", "secret")
    with stub() as (url, _):
        first, _ = ask(url, tmp_path / "s.sqlite", questions(5), key_env="SOME_KEY")
    assert export_calls(tmp_path / "s.sqlite", tmp_path / "calls.parquet") == 5
    monkeypatch.delenv("SOME_KEY")
    assert import_calls(tmp_path / "calls.parquet", tmp_path / "new.sqlite") == 5
    assert import_calls(tmp_path / "calls.parquet", tmp_path / "new.sqlite") == 0
    again, usage = ask(url, tmp_path / "new.sqlite", questions(5), key_env="SOME_KEY")
    assert [r.text for r in again] == [r.text for r in first] and (usage["calls"], usage["stored"]) == (0, 5)
    with pytest.raises(KyaraError, match="export SOME_KEY="):
        ask(url, tmp_path / "new.sqlite", questions(6), key_env="SOME_KEY")


def test_an_embedded_model_is_not_loaded_for_a_replay(tmp_path):
    """Replaying must need neither the model's memory nor the seconds to load it."""
    model = Model("local", package="gemma-3-270m", dialect="completion")

    def never() -> Path:
        raise AssertionError("the model file was asked for")

    with Client(model, Ledger(tmp_path / "s.sqlite"), never, identity="gguf x") as client:
        _, body = render(model, questions(1)[0])
        assert orjson.loads(body)["prompt"] == "第0題"
        with pytest.raises(AssertionError):
            client.ask(questions(1), progress=False)


def test_exactly_n_accepted_rows(tmp_path):
    """ "Give me a thousand good rows" must not mean a thousand tries, nor one call too many without a trace."""
    work = lambda some: ([{"id": str(n)} for n in some if n % 3 == 0], [{"id": str(n)} for n in some if n % 3])  # noqa: E731
    kept, rejects, used = until_accepted(work, range(100), 5, "02", batch=4)
    assert [row["id"] for row in kept] == ["0", "3", "6", "9", "12"] and used == 16
    assert len(kept) + len(rejects) == used and [row["rule"] for row in rejects if "rule" in row] == ["surplus"]
    kept, rejects, used = until_accepted(work, range(6), 5, "02")
    assert (len(kept), used) == (2, 6)


def test_calls_command_shows_exports_and_imports(tmp_path, monkeypatch, capsys):
    """The ledger is what was paid for: people must be able to see, ship and load it without Python."""
    monkeypatch.setenv("KYARA_RUNS", str(tmp_path))
    with stub() as (url, _):
        ask(url, tmp_path / "smoke" / "calls.sqlite", questions(4))
    assert main(["calls", "smoke", "--export", str(tmp_path / "c.parquet")]) == 0
    assert main(["calls", "other", "--import", str(tmp_path / "c.parquet")]) == 0
    assert main(["calls", "other"]) == 0
    said = capsys.readouterr().out
    assert "4 calls" in said and "stub" in said
    assert main(["calls", "none"]) == 1 and "no call ledger" in capsys.readouterr().err


def test_a_ledger_of_another_version_is_refused(tmp_path):
    """Misread keys would mix old answers with new questions."""
    path = tmp_path / "s.sqlite"
    Ledger(path).close()
    import sqlite3

    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=1")
    with pytest.raises(KyaraError, match="version 1, not 2; move it away"):
        Ledger(path)


def test_system_turn_is_folded_for_templates_without_one():
    """Gemma 2 raises on a system role; dropped silently, the instruction would be lost."""
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    assert fold_system(messages) == [{"role": "user", "content": "S\n\nU"}]
    model = Model("g", "http://x/v1", system_role=False, omit=("seed",), system="先說")
    body = orjson.loads(render(model, Request([{"role": "user", "content": "U"}], n=3))[1])
    assert body["messages"] == [{"role": "user", "content": "先說\n\nU"}] and body["n"] == 3 and "seed" not in body


@pytest.mark.parametrize(
    ("engine", "field"), [("vllm", "repetition_penalty"), ("llamacpp", "repeat_penalty"), ("openai", "")]
)
def test_engines_get_only_fields_they_know(engine, field):
    """OpenAI answers 400 to an unknown field: every row of a paid run would fail."""
    body = orjson.loads(render(Model("m", "http://x/v1", engine=engine), questions(1, repeat_penalty=1.2)[0])[1])
    assert {name for name in body if "penalty" in name} == ({field} if field else set())


def test_gate_falls_by_a_quarter_and_climbs_by_one():
    """Additive increase, multiplicative decrease; the refusals of one moment are one refusal."""
    gate = Gate(16)
    gate.refused(10.0), gate.refused(10.5)
    assert gate.limit == 12
    for _ in range(12):
        gate.accepted()
    assert 12.9 < gate.limit <= 13
    for second in range(100):
        gate.refused(20.0 + second)
    assert gate.limit == 1


def test_pace_learns_what_was_accepted_and_ignores_try_again_at_once():
    """A rate learnt from nothing stops the work; one learnt from a random 429 strangles it."""
    pace = Pace()
    for n in range(100):
        pace.accepted(n / 100)
    pace.refused(1.0, 0.0, 5)
    assert pace.rate == float("inf")
    pace.refused(1.0, 1.0, 5)
    assert 90 < pace.rate < 100
    fast = Pace(rate=2000)

    async def send():
        for _ in range(40):
            await fast.wait()
        return asyncio.get_running_loop().time()

    begun = time.monotonic()
    asyncio.run(send())
    assert time.monotonic() - begun >= 39 / 2000


def test_retry_after_in_both_forms():
    """The header may be a date; misread as zero it is an attack on the server."""
    assert retry_after("1.5") == 1.5 and retry_after(None) is None and retry_after("soon") is None
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert all(0 < backoff(n) <= 60 for n in range(1, 30))


def test_a_step_is_priced_before_it_runs(tmp_path):
    """Nobody starts a paid step without knowing what it may cost; what cannot be known yet must be said."""
    table = [
        {"model": "model", "stage": "questions", "per": ["questions", 2], "tokens": [100, "max_tokens"]},
        {"model": "models", "stage": "answers", "per": ["02.conversations"], "tokens": [10, 10]},
    ]
    values = {"model": "gpt-4o", "models": ["gpt-4o", "gemma-3-270m"], "questions": 500, "max_tokens": 50}
    first, second = estimate(planned_calls(table, values, lambda step, output: None))
    assert first.startswith("gpt-4o: at most 1,000 calls, 100,000 + 50,000 tokens, $0.75; not known before")
    assert second == "gemma-3-270m: not known before the earlier steps have run: answers"
    later = planned_calls(table, values, lambda step, output: {"02": 7}[step])
    assert estimate(later)[1] == "gemma-3-270m: at most 7 calls, 70 + 70 tokens, free"


def test_a_models_reasoning_and_speed_are_reckoned_with():
    """Reasoning is billed as answer tokens; a small model on two cores is not as fast as the smallest."""
    items = [Planned("m", "x", 1000, 3600, 100)]
    thinking = _Sum.of(Model("m", price_out=1.0, reasoning_tokens=900), items)
    assert (thinking.completion, thinking.money) == (1_000_000, "$1.00")
    slow = _Sum.of(Model("m", package="qwen-0.5b", speed=[100, 10], parallel=4), items)
    assert slow.hours == pytest.approx(10 + 1 / 0.36)


def test_every_planned_line_names_real_parameters():
    """A renamed parameter must not make the estimate crash on the day that it is needed."""
    root = find_root()
    for name, step in load_steps(root).items():
        values = resolved(root, "smoke", name, {})
        for item in planned_calls(list(step.calls), values, lambda step, output: 10):
            assert item.calls is not None and item.prompt_tokens >= 1, (name, item)


def test_the_whole_run_is_summed_up_and_what_is_missing_named(monkeypatch):
    """An unknown model was free; nobody saw what the nine steps cost together, nor that the key was missing."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    plan, table = Plan(), [{"model": "model", "stage": "x", "per": [30_000], "tokens": [1000, 100]}]
    for model in ("gpt-4o", "gpt-4o", "sft", "vllm"):
        plan.step(table, {"model": model}, lambda step, output: None)
    total, missing = plan.total()
    assert total.startswith("in all at most 120,000 calls, 132,000,000 tokens, $210.00, ")
    assert float(total.split("$210.00, ")[1].split()[0].replace(",", "")) > 36  # 66 million tokens at 30,000 a minute
    assert missing == "missing: OPENAI_API_KEY is not set; export OPENAI_API_KEY=…"
    with pytest.raises(KyaraError, match="no model gpt-4oo in params/models.yaml; did you mean gpt-4o"):
        plan.step(table, {"model": "gpt-4oo"}, lambda step, output: None)
    assert plan.step(table + [table[0] | {"unless": {"model": "sft"}}], {"model": "sft"}, None) == [
        "sft: at most 30,000 calls, 30,000,000 + 3,000,000 tokens, free"
    ]
