"""What real providers answer, line by line: each is read, refused or named, never believed and never asked for ever."""

import asyncio
import contextlib
import json
import sqlite3
import threading

import pytest
from aiohttp import web

from kyara_utils.evaluation.backends.backend import EndpointBackend
from kyara_utils.llm import Client, Model, Request, trained
from kyara_utils.llm.ledger import Ledger
from kyara_utils.llm.protocol import render
from kyara_utils.runs import KyaraError

GOOD = {"message": {"content": "答案"}, "finish_reason": "stop"}


def body(*choices, **more) -> tuple[int, object, dict]:
    return 200, {"choices": list(choices), "usage": {"prompt_tokens": 3, "completion_tokens": 2}} | more, {}


def said(content, reason="stop", **message) -> tuple[int, object, dict]:
    return body({"message": {"content": content} | message, "finish_reason": reason})


@contextlib.contextmanager
def provider(*answers):
    """A server that gives (status, JSON or text, headers) one after the other, the last one for ever.

    Yields (base URL, requests as [method, path, host]).
    """
    loop, ready, seen = asyncio.new_event_loop(), threading.Event(), []

    async def answer(request):
        seen.append((request.method, str(request.rel_url), request.headers["Host"]))
        status, content, headers = answers[min(len(seen), len(answers)) - 1]
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        return web.Response(status=status, text=text, headers=headers)

    async def begin():
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        seen.append(site._server.sockets[0].getsockname()[1])
        ready.set()

    def serve():
        asyncio.set_event_loop(loop)
        loop.run_until_complete(begin())
        loop.run_forever()

    threading.Thread(target=serve, daemon=True).start()
    ready.wait(5)
    yield f"http://127.0.0.1:{seen.pop()}/v1", seen
    loop.call_soon_threadsafe(loop.stop)


def ask(url, path, rows=1, request=None, **fields):
    model = Model("them", url, **{"model": "m", "parallel": 4} | fields)
    with Client(model, Ledger(path / "s.sqlite")) as client:
        requests = [request or Request([{"role": "user", "content": f"第{row}題"}]) for row in range(rows)]
        return client.ask(requests, progress=False, reasks=0), client.usage


def stored(path) -> int:
    return len(Ledger(path / "s.sqlite"))


def failures(path) -> list[tuple[str, str]]:
    with sqlite3.connect(path / "s.sqlite") as db:
        return db.execute("SELECT error, raw FROM failures").fetchall()


NO_MODEL = {"error": {"code": "model_not_found", "message": "The model `m` does not exist"}}
NO_MONEY = {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}
HTML = "<!doctype html><html><body>Welcome to nginx!</body></html>"
PERMANENT = {
    "model not found": ((404, NO_MODEL, {}), "model_not_found.*check the field model"),
    "bad request": ((400, {"error": "unsupported parameter: seed"}, {}), "3 times HTTP 400: .*seed.*omit, rename"),
    "key": ((401, {"error": "invalid key"}, {}), "HTTP 401: .*; give a key .* that is valid"),
    "money": ((402, {"error": "insufficient balance"}, {}), "HTTP 402: .*; top the account up"),
    "forbidden": ((403, {"error": "no access"}, {}), "3 times HTTP 403: .*; .* may not use this model"),
    "method": ((405, "", {}), "HTTP 405: .*; set base_url to the API's address"),
    "schema": ((422, {"error": "top_logprobs must be at most 5"}, {}), "3 times HTTP 422: .*at most 5"),
    "quota": ((429, NO_MONEY, {}), "insufficient_quota.*; top the account up"),
    "page": ((200, HTML, {}), "3 times HTTP 200 with a web page .*; set base_url .* ends in /v1"),
    "stream": ((200, 'data: {"choices": []}\n\ndata: [DONE]\n\n', {}), "3 times HTTP 200 with an event stream"),
    "moved": ((301, "", {"Location": "https://new.example/v1"}), "has moved: set base_url to https://new.example/v1"),
    "found": ((302, "", {"Location": "/login"}), "HTTP 302: .*set base_url to /login"),
    "a day": ((429, {"error": "daily limit"}, {"Retry-After": "86400"}), "asks to wait 24.0 hours .*; rerun then"),
    "error in 200": ((200, {"error": {"message": "unknown field n"}}, {}), "3 times error in the answer: .*unknown"),
}


@pytest.mark.parametrize("name", PERMANENT)
def test_a_permanent_refusal_ends_the_step_with_one_line(tmp_path, name):
    """Asked for every row, six times each, it costs a night; recorded as an answer, it is believed for ever."""
    answer, message = PERMANENT[name]
    with provider(answer) as (url, seen):
        with pytest.raises(KyaraError, match=message) as error:
            ask(url, tmp_path, rows=100)
        assert len(seen) <= 8 and "\n" not in str(error.value)
        assert {method for method, *_ in seen} == {"POST"}
    assert stored(tmp_path) == 0


@pytest.mark.parametrize("words", [
    {"code": "context_length_exceeded", "message": "maximum context length is 4096 tokens"},
    {"code": "content_filter", "message": "triggered the content management policy"},
    {"message": "Content Exists Risk"}, {"code": "data_inspection_failed"}, {"message": "prompt is too long: 9 > 8"},
])  # fmt: skip
def test_a_refused_row_does_not_end_the_step(tmp_path, words):
    """One document that is too long, or that a filter dislikes, says nothing about its neighbours."""
    with provider(*[(400, {"error": words}, {})] * 12, said("好")) as (url, _):
        responses, usage = ask(url, tmp_path, rows=20, parallel=1)
    assert [bool(response.error) for response in responses] == [True] * 12 + [False] * 8 and usage["failed"] == 12
    assert all("HTTP 400" in error for error, _ in failures(tmp_path))


def test_refusals_that_differ_or_stop_are_rows(tmp_path):
    """An answer in between shows that address, key and model are right."""
    refused = [(400, {"error": f"field {number}a: bad row"}, {}) for number in range(2)]
    with provider(*refused, said("好"), *refused, (400, {"error": "other"}, {}), said("好")) as (url, _):
        responses, _ = ask(url, tmp_path, rows=8, parallel=1)
    assert [bool(response.error) for response in responses] == [True, True, False, True, True, True, False, False]


@pytest.mark.parametrize("key", ["secret\n", "se cret", "\u201csecret\u201d"])
def test_a_key_that_no_header_can_carry(tmp_path, monkeypatch, key):
    """Six attempts for each row, and an error of the HTTP library that shows the key."""
    monkeypatch.setenv("THEIR_KEY", key)
    with provider(said("好")) as (url, seen):
        with pytest.raises(KyaraError, match="the key in THEIR_KEY holds .*; export it again") as error:
            ask(url, tmp_path, rows=20, key_env="THEIR_KEY")
    assert not seen and "secret" not in str(error.value)


UNREADABLE = {
    "message null": (body({"message": None, "finish_reason": "stop"}), "no message"),
    "choice error": (body({"error": {"code": 400, "message": "bad"}, "message": {"content": ""}}), "bad"),
    "choice no object": (body("x"), "no object"),
    "choices null": ((200, {"choices": None}, {}), "no choices"),
    "delta": (body({"delta": {"content": "答"}, "finish_reason": "stop"}), "no message"),
    "content number": (said(7), "neither text nor parts"),
    "a list": ((200, ["x"], {}), "no choices"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_body_without_an_answer_is_a_failure_with_its_raw_body(tmp_path, name):
    """Stored before it was understood, it crashes every rerun until somebody edits the database."""
    answer, why = UNREADABLE[name]
    with provider(answer, said("好")) as (url, _):
        (response,), usage = ask(url, tmp_path)
        assert why in response.error and not response.text and usage["failed"] == 1 and stored(tmp_path) == 0
        ((_, raw),) = failures(tmp_path)
        assert json.loads(raw) == answer[1]
        (again,), _ = ask(url, tmp_path)
    assert again.text == "好" and not again.error


def test_a_stored_body_that_cannot_be_read_is_asked_again(tmp_path):
    """Ledgers of earlier versions hold such bodies; a rerun must neither crash nor serve them."""
    with provider(said("好"), said("新")) as (url, _):
        ask(url, tmp_path)
        with sqlite3.connect(tmp_path / "s.sqlite") as db:
            db.execute("""UPDATE calls SET response = '{"choices": [{"message": null}]}'""")
        (response,), usage = ask(url, tmp_path)
    assert response.text == "新" and (usage["calls"], usage["stored"]) == (1, 0)
    assert failures(tmp_path) == [("the answer has no message", '{"choices": [{"message": null}]}')]


def test_an_older_ledger_gets_the_raw_body_of_failures(tmp_path):
    """A ledger that was paid for must open after an update."""
    with sqlite3.connect(tmp_path / "s.sqlite") as db:
        db.execute("CREATE TABLE failures (key TEXT, model TEXT, request TEXT, error TEXT, attempts INT, created REAL)")
        db.execute("PRAGMA user_version=2")
    with provider(UNREADABLE["message null"][0]) as (url, _):
        ask(url, tmp_path)
    assert failures(tmp_path)[0][1]


ENDINGS = {
    "content_filter": (said("半句", "content_filter"), "finish_reason content_filter"),
    "tool_calls": (said(None, "tool_calls", tool_calls=[{"id": "1"}]), "finish_reason tool_calls"),
    "safety": (said("半句", "SAFETY"), "finish_reason content_filter"),
    "sensitive": (said("", "sensitive"), "finish_reason content_filter"),
    "refusal": (said(None, "stop", refusal="不能回答"), "refusal: 不能回答"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_an_ending_that_is_no_answer_is_a_named_failure(tmp_path, name):
    """Half a sentence that a filter cut passes for an answer; asked again it costs the same and ends the same."""
    answer, error = ENDINGS[name]
    with provider(answer) as (url, seen):
        (response,), usage = ask(url, tmp_path)
        (again,), usage2 = ask(url, tmp_path)
    assert response.error == again.error == error and len(seen) == 1
    assert (usage["calls"], usage["failed"], usage2["stored"], usage2["failed"]) == (1, 1, 1, 1)


@pytest.mark.parametrize("broken", [
    body(GOOD | {"finish_reason": "error"}), body(GOOD | {"finish_reason": "insufficient_system_resource"}),
    body({"error": {"code": 502, "message": "upstream"}}),
    (200, {"error": {"code": 429, "message": "busy"}}, {}), (200, '{"choices": [{"mess', {}),
])  # fmt: skip
def test_what_broke_off_on_the_way_is_tried_again(tmp_path, broken):
    """A gateway reports its supplier's hiccup at status 200."""
    with provider(broken, said("好")) as (url, seen):
        (response,), usage = ask(url, tmp_path)
    assert response.text == "好" and not response.error and len(seen) == usage["attempts"] == 2


def test_content_as_a_list_of_parts(tmp_path):
    """Mistral's reasoning models answer in parts, reasoning among them."""
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "想"}]}, {"type": "text", "text": "答"}, "案"]
    with provider(said(parts)) as (url, _):
        (response,), _ = ask(url, tmp_path)
    assert (response.text, response.reasoning) == ("答案", "想")


@pytest.mark.parametrize("message", [
    {"content": "答案", "reasoning_content": "想"}, {"content": "答案", "reasoning": "想"},
    {"content": "<thought>想</thought>\n<answer>答案</answer>"}, {"content": "◁think▷想◁/think▷答案"},
    {"content": "<|channel|>analysis<|message|>想<|end|><|start|>assistant<|channel|>final<|message|>答案"},
    {"content": "<|START_THINKING|>想<|END_THINKING|><|START_RESPONSE|>答案<|END_RESPONSE|>"},
    {"content": "<think>\n想\n</think>\n\n答案"}, {"content": "想</think>答案"}, {"content": "[THINK]想[/THINK]答案"},
])  # fmt: skip
def test_reasoning_is_kept_apart(tmp_path, message):
    """Questions, verdicts and sums must not be read from what a model thought aloud; the ledger keeps the whole."""
    logprobs = {"content": [{"top_logprobs": [{"token": "能", "logprob": -0.1}]}]}
    with provider(body({"message": message, "finish_reason": "stop", "logprobs": logprobs})) as (url, _):
        (response,), _ = ask(url, tmp_path)
        (again,), usage = ask(url, tmp_path)
    assert (response.text, response.reasoning, list(response.logprobs)) == ("答案", "想", []) and usage["stored"] == 1
    assert (again.text, again.reasoning) == ("答案", "想")
    (call,) = Ledger(tmp_path / "s.sqlite").calls()
    assert json.loads(call.response)["choices"][0]["message"] == message


def test_reasoning_that_never_ends_is_a_truncated_answer(tmp_path, caplog):
    """The token limit fell within the reasoning: there is no answer, whatever the finish reason says."""
    with provider(said("<think>先算 [[A]]，再", "stop")) as (url, _):
        (response,), _ = ask(url, tmp_path)
    assert (response.text, response.truncated, response.reasoning) == ("", True, "先算 [[A]]，再")
    assert "them thinks until its tokens are used up; raise its reasoning_tokens" in caplog.text


SHORT = Request([{"role": "user", "content": "幾枝？"}], max_tokens=32, stop=("\n",))


@pytest.mark.parametrize("message", [
    {"content": "<think>\n先算\n\n36-7=29\n</think>\n\n29枝\n問題:還有呢？"},
    {"content": "\n\n29枝\n問題:還有呢？", "reasoning_content": "先算\n\n36-7=29"},
])  # fmt: skip
def test_a_stop_ends_the_answer_and_not_the_reasoning(tmp_path, message):
    """A line break is a stop of worked examples, and the second character of most reasoning."""
    assert "stop" not in json.loads(render(Model("m", reasoning_tokens=500), SHORT)[1])
    assert json.loads(render(Model("m", reasoning_tokens=500), SHORT)[1])["max_tokens"] == 532
    assert json.loads(render(Model("m"), SHORT)[1])["stop"] == ["\n"], "other models are asked as before"
    with provider(body({"message": message, "finish_reason": "length"})) as (url, _):
        for _ in range(2):  # asked, and from the ledger
            (response,), _ = ask(url, tmp_path, request=SHORT, reasoning_tokens=500)
            assert (response.text, response.finish_reason) == ("29枝", "stop")
        (response,), _ = ask(url, tmp_path, reasoning_tokens=500)
        assert response.text.endswith("還有呢？") and response.finish_reason == "length", "no stop was asked for"


def test_an_answer_that_never_came_is_not_scored(tmp_path):
    """Cut within its reasoning, a model has not answered wrongly; the interval holds both."""
    with provider(body({"message": {"content": None, "reasoning_content": "先"}, "finish_reason": "stop"})) as (url, _):
        with Client(Model("them", url, model="m"), Ledger(tmp_path / "s.sqlite")) as client:
            backend = EndpointBackend(client)
            (row,) = backend.generate([{"id": "q", "messages": SHORT.messages}], 32, SHORT.stop)
            (spoken,) = backend.converse([{"id": "q", "turns": ["幾枝？"]}], 32)
    assert (
        row["text"] is spoken["text"] is None and "reasoning_tokens" in row["error"] and row["error"] == spoken["error"]
    )


def test_a_trained_model_may_think(tmp_path):
    """Its entry has no address, so that the weights still answer."""
    (tmp_path / "params").mkdir()
    registry = tmp_path / "params/models.yaml"
    for text, tokens in (("{}", 0), ("sft: {reasoning_tokens: 300}", 300)):
        registry.write_text(text)
        model = trained("sft", tmp_path / "sft.gguf", context=1000, root=tmp_path)
        assert (model.reasoning_tokens, model.context, model.embedded) == (tokens, 1000 + tokens, True)


def test_bodies_that_providers_take():
    """Each line was a 400 for every row at one of them."""
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {
        "type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]}}}, "required": ["a"]}  # fmt: skip
    request = Request([{"role": "user", "content": "x"}], max_tokens=10, schema=schema, top_logprobs=64)

    def sent(**fields) -> dict:
        return json.loads(render(Model("m", **fields), request)[1])

    chat = sent(rename={"max_tokens": "max_completion_tokens"}, omit=["temperature"], reasoning_tokens=90,
                extra={"reasoning_effort": "low"})  # fmt: skip
    assert chat["max_completion_tokens"] == 100 and not {"max_tokens", "temperature"} & set(chat)
    assert chat["top_logprobs"] == 20 and chat["reasoning_effort"] == "low"
    named = chat["response_format"]["json_schema"]
    items = named["schema"]["properties"]["a"]["items"]
    assert named["strict"] and named["schema"]["additionalProperties"] is items["additionalProperties"] is False
    assert "additionalProperties" not in schema
    del schema["properties"]["a"]["items"]["required"]
    assert sent()["response_format"]["json_schema"]["strict"] is False  # strict mode has no optional property
    vllm = sent(dialect="completion", engine="vllm")
    assert vllm["structured_outputs"] == {"json": schema} and vllm["logprobs"] == 20 and "guided_json" not in vllm
    assert json.loads(sent(dialect="completion", engine="sglang")["json_schema"]) == schema
    assert sent(dialect="completion")["logprobs"] == 5 and sent(engine="vllm", top_logprobs=64)["top_logprobs"] == 64
    assert sent(package="qwen-0.5b")["top_logprobs"] == 64


@pytest.mark.parametrize("given", ["", "/", "/chat/completions", "/chat/completions/", "/completions"])
def test_an_address_as_people_copy_it(tmp_path, given):
    """Documentation shows the whole path; twice in a row it is a 404."""
    with provider(said("好")) as (url, seen):
        ask(url + given, tmp_path)
    assert seen[0][1] == "/v1/chat/completions"


def test_fields_as_people_write_them():
    """A name without brackets was read letter by letter and left nothing out."""
    request = Request([{"role": "user", "content": "x"}])
    assert "seed" not in json.loads(render(Model("m", omit="seed"), request)[1])
    for wrong in ({"rename": ["max_tokens"]}, {"engine": "vLLM"}, {"dialect": "text"}):
        with pytest.raises(KyaraError, match="^m: .*"):
            Model("m", **wrong)


@pytest.mark.parametrize("given", ["api.example.com/v1", "localhost:8000/v1", "http:///v1"])
def test_an_address_that_is_none(tmp_path, given):
    """Six attempts and a library's error for each row."""
    with pytest.raises(KyaraError, match="is no address; it begins with https://"):
        ask(given, tmp_path)


def test_proxies_of_the_environment(tmp_path, monkeypatch):
    """Behind a company's proxy nothing else works; one's own server is never asked through it."""
    with provider(said("經代理")) as (proxy, seen), provider(said("直接")) as (url, _):
        monkeypatch.setenv("http_proxy", proxy.removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        (through,), _ = ask("http://api.example.invalid/v1", tmp_path)
        (direct,), _ = ask(url, tmp_path, model="n")
    assert (through.text, direct.text) == ("經代理", "直接") and seen[0][2] == "api.example.invalid"


def test_a_long_wait_is_said(tmp_path, caplog, monkeypatch):
    """A minute of silence looks like a hang."""
    monkeypatch.setattr("kyara_utils.llm.refusals.SAID", 0.01)
    with provider((429, {"error": "slow down"}, {"Retry-After": "0.02"}), said("好")) as (url, _):
        (response,), _ = ask(url, tmp_path)
    assert response.text == "好" and "them asks to wait" in caplog.text


JSON = {
    "fence": '```json\n{"a": "甲"}\n```', "prose": '好的，見[1]：\n{"a": "甲"}\n希望有幫助 {笑}',
    "two": '{"a": "甲"}\n\n{"a": "乙"}', "two fences": '```json\n{"a": "甲"}\n```\n或\n```json\n{"a": "乙"}\n```',
    "comma": '{"a": "甲",}', "quotes": "{“a”: “甲”}", "wide": "{“a”：“甲”}",
    "single": "{'a': '甲'}", "lost": '{"a": "甲"',
    "thought": '<think>{"a": 1}</think>{"a": "甲"}',
}  # fmt: skip
ONE = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


@pytest.mark.parametrize("name", JSON)
def test_json_as_models_write_it(tmp_path, name):
    """After one strict try it is found and repaired once, so that every room reads plain JSON."""
    with provider(said(JSON[name])) as (url, _):
        (response,), usage = ask(url, tmp_path, request=Request([{"role": "user", "content": "x"}], schema=ONE))
    assert json.loads(response.text) == {"a": "甲"} and not response.error and usage["failed"] == 0


@pytest.mark.parametrize("text", ['{"a": "甲', '{"a": ', "見[1]", "{}", "沒有", '{"b": ["x"]', '[{"b": 1}]', "{最高}"])
def test_json_that_stays_broken_is_a_counted_failure(tmp_path, text):
    """An empty object in silence is a document without queries, questions or tags."""
    with provider(said(text)) as (url, _):
        (response,), usage = ask(url, tmp_path, request=Request([{"role": "user", "content": "x"}], schema=ONE))
    assert response.error.startswith("format: ") and usage["failed"] == 1


def test_json_that_the_token_limit_cut_is_not_completed(tmp_path):
    """A repaired half would pass for the whole."""
    optional = {"type": "object", "properties": {"a": {"type": "object"}, "c": {"type": "string"}}}
    with provider(said('{"a": {"b": 1}, "c', "length")) as (url, _):
        (response,), _ = ask(url, tmp_path, request=Request([{"role": "user", "content": "x"}], schema=optional))
    assert response.error.startswith("format: not JSON") and response.truncated
