"""Talking to a run: streams, conversations, checked answers from an index, the terminal, serving and its check."""

import functools
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jinja2
import pexpect
import pytest
from loopback import loopback
from scripted import Scripted, last, text

from kyara_utils.__main__ import main
from kyara_utils.chat import views
from kyara_utils.chat.grounded import answer_from, checked_claims
from kyara_utils.chat.hosting import curl, look_at
from kyara_utils.chat.library import library
from kyara_utils.chat.speakers import Speaker, choose, missing, models_of
from kyara_utils.chat.talk import Talk
from kyara_utils.chat.terminal import Terminal, grounded_text, lines
from kyara_utils.llm import Model, Request
from kyara_utils.llm.streaming import TooLong, asked, stream
from kyara_utils.models import serving
from kyara_utils.models.chat_templates import INFERENCE_TEMPLATE
from kyara_utils.models.deployment import OLLAMA_TEMPLATE, commands
from kyara_utils.models.generation import Answer
from kyara_utils.models.gguf_file import Field, write_gguf
from kyara_utils.runs import KyaraError
from kyara_utils.runs.finished import so_far

ROOT = Path(__file__).resolve().parents[1]
ASK = Request([{"role": "user", "content": "玉山多高？"}], max_tokens=20)


def model(url, **fields):
    return Model("toy", base_url=url, model="toy", **fields)


def said(url, request=ASK, **fields):
    return list(stream(model(url, **fields), url, request))


def event(**choice):
    return json.dumps({"choices": [choice]})


def test_an_answer_grows_and_ends_with_its_reason():
    """A reader along must see every piece once, and know whether the limit cut it."""
    with loopback(lambda body: "玉山高三千九百五十二公尺。") as (url, asked):
        grown = said(url)
    assert [one.text for one in grown[:2]] == ["玉山", "玉山高三"] and grown[-1].text == "玉山高三千九百五十二公尺。"
    assert [one.finish_reason for one in grown] == [""] * (len(grown) - 1) + ["stop"] and asked[0]["stream"]


def test_reasoning_is_not_said_and_a_broken_stream_is_an_error():
    """A model that thinks aloud is read along only from its answer on; half an answer is none."""
    thinking = [
        event(delta={"content": "<think>嗯"}),
        event(delta={"content": "…</think>三千"}, finish_reason="length"),
    ]
    with loopback(lambda body: thinking) as (url, _):
        grown = said(url)
    assert [one.text for one in grown] == ["", "三千", "三千"] and grown[-1].truncated
    with loopback(lambda body: [json.dumps({"error": "out of memory"})]) as (url, _):
        with pytest.raises(KyaraError, match="broke off: out of memory; ask again"):
            said(url)
    with loopback(lambda body: [event(delta={"content": "玉山高三千"}), None]) as (url, _):
        with pytest.raises(KyaraError, match="broke off: it ends without a reason; ask again"):
            said(url)
    with pytest.raises(KyaraError, match="nobody answers at http://127.0.0.1:9/v1/chat/completions"):
        said("http://127.0.0.1:9/v1")


def test_a_conversation_keeps_its_turns_and_forgets_the_oldest():
    """A second question without the first answer is another conversation; a context that is full is no dead end."""

    def reply(body):
        if len(body["messages"]) > 4 or "很長" in body["messages"][-1]["content"]:
            return 400, "request (9 tokens) exceeds the available context size (8 tokens)"
        return f"答{len(body['messages'])}"

    with loopback(reply) as (url, asked):
        talk = Talk(Speaker(model(url)), "說中文。")
        for question in ("一", "二", "三"):
            list(talk.say(question))
        with pytest.raises(TooLong):
            list(talk.say("很長的文章"))
        list(talk.say("四"))
    roles = [turn["role"] for turn in asked[1]["messages"]]
    assert roles == ["system", "user", "assistant", "user"] and asked[1]["messages"][2]["content"] == "答2"
    assert talk.forgotten == 2 and [one.asked for one in talk.rounds] == ["三", "四"]
    assert [turn["content"] for turn in asked[-1]["messages"]] == ["說中文。", "三", "答4", "四"]
    with loopback(lambda body: (400, "maximum context length is 8")) as (url, _), pytest.raises(TooLong):
        list(Talk(Speaker(model(url))).say("長"))


def test_a_base_model_sees_worked_examples_and_the_system_text():
    """Without them it goes on with the question; the end of its line ends the turn."""
    with loopback(lambda body: "三千九百五十二公尺。") as (url, asked):
        talk = Talk(Speaker(model(url, dialect="completion")), "你是登山嚮導。")
        list(talk.say("玉山多高？"))
        list(talk.say("雪山呢？"))
    prompt = asked[1]["prompt"]
    assert (
        prompt.startswith("你是登山嚮導。\n\n問:")
        and prompt.endswith("問:雪山呢？\n答:")
        and "\n\n" in asked[1]["stop"]
    )
    assert "問:玉山多高？\n答:三千九百五十二公尺。" in prompt


def test_the_terminal_takes_commands_and_goes_on_after_an_error():
    """A conversation that ends at the first refused call is lost; a command must not be sent to the model."""
    replies = iter(["很好。", (500, "overloaded"), "再見。"])
    written = []
    with loopback(lambda body: next(replies)) as (url, asked):
        terminal = Terminal(Talk(Speaker(model(url))), written.append)
        terminal.run(iter(["/system 說中文。", "你好嗎？", "/what", "嗯？", "/reset", "再見", "/quit", "不會問"]))
    shown = "".join(written)
    assert "system prompt: 說中文。" in shown and "很好。\n" in shown and "error: toy: HTTP 500" in shown
    assert "/reset begins anew" in shown and terminal.failed and len(asked) == 3
    assert [turn["content"] for turn in asked[2]["messages"]] == ["說中文。", "再見"]


def test_answers_from_the_index_have_no_system_prompt(index, capsys):
    """A setting that is taken and has no effect is worse than one that is refused."""
    written = []
    Terminal(Talk(Scripted(None)), written.append, index).run(iter(["/system 說中文。", "/quit"]))
    assert written == ["with --rag every question stands alone, without a system prompt · /quit ends\n"]
    assert main(["chat", "smoke", "--rag", "--system", "說中文。"]) == 1 and "no system turn" in capsys.readouterr().err


@pytest.fixture(scope="module")
def index():
    with library({}, every=70) as opened:
        yield opened


def answering(write):
    """A strong model that writes what `write(first passage's id, its first sentence)` gives."""

    def answer(request):
        found = re.search(r"文件ID: (\S+)\n\* 文件標題: .*\n\* 文件內文: (.*?。)", last(request))
        return text(write(*found.groups()))

    return Scripted(answer, dialect="chat", style="full")


def test_a_citation_stands_beside_its_passage(index):
    """An answer from the index is believed as far as its citations hold, so both are shown together."""
    question = f"{index.search('書法', 1)[0].title}是什麼？"
    found = answer_from(index, answering(lambda one, sentence: f"{sentence[:-1]}【{one}】。"), question)
    (claim,) = found.claims
    assert found.answer == found.draft and not found.reason and claim.holds and claim.share > 0.9
    assert claim.sentence in claim.passage and claim.id == found.passages[0]["id"]
    assert f"【{claim.id}】{claim.title} · has {claim.share:.0%} of the statement's terms: enough" in grounded_text(
        found
    )


def test_a_citation_of_the_wrong_passage_does_not_hold():
    """Two passages may share a statement's words; the one that has far more of them is what it says."""
    words = "烏龍茶是部分發酵的茶，產於臺灣的山區。"
    one, other = (
        {"id": f"id_{n}", "title": "茶", "text": text} for n, text in enumerate((words, "烏龍茶是茶。山區。"))
    )
    (right, wrong) = checked_claims(f"{words[:-1]}【id_0】【id_1】。", [one, other])
    assert right.holds and wrong.verdict in ("too few", "another passage has more") and wrong.share < right.share
    (strange,) = checked_claims("茶【id_2】。", [one])
    assert not strange.holds and strange.verdict == "no such passage was shown"


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda one, sentence: "愛因斯坦在1921年得獎。", "it cites nothing"),
        (lambda one, sentence: "愛因斯坦在1921年得獎【id_00000000】。", "it cites a document that was not shown"),
        (lambda one, sentence: f"愛因斯坦在1921年得獎【{one}】。", "a cited passage does not say"),
        (lambda one, sentence: "参考文件缺乏与问题相关资讯。", "the model itself says so"),
    ],
)
def test_what_no_passage_bears_becomes_the_fixed_sentence(index, write, reason):
    """The card's sentence stands where the model says it, and where it makes something up instead."""
    found = answer_from(index, answering(write), "愛因斯坦哪一年得獎？")
    assert found.answer == "參考文件缺乏與問題相關資訊。" and found.reason.startswith(reason)
    assert not any(claim.holds for claim in found.claims)
    assert found.draft in grounded_text(found) or reason.endswith("says so")


def test_passages_that_exceed_the_context_are_fewer(index):
    """Long chunks and a small context are no reason to answer nothing."""

    def answer(request):
        if last(request).count("文件ID: ") > 1:
            raise TooLong("toy: too long; start anew")
        return text("好。")

    found = answer_from(index, Scripted(answer, dialect="chat", style="full"), "書法的墨是什麼？")
    assert len(found.passages) == 1 and found.draft == "好。"


def test_both_scripts_find_the_same_passages(index):
    """Readers type what their keyboard gives them."""
    one, other = (index.search(query, 3) for query in ("書法的筆畫與墨", "书法的笔画与墨"))
    assert [hit.chunk_id for hit in one] == [hit.chunk_id for hit in other]


class Shown:
    """Stands in for IPython's display: one output and all that was drawn into it."""

    def __init__(self):
        self.drawn = []

    def __call__(self, bundle, raw, display_id):
        self.drawn.append(bundle)
        return self

    def update(self, bundle, raw):
        self.drawn.append(bundle)


def test_a_conversation_grows_in_one_output_and_goes_on_in_the_next(monkeypatch):
    """A stored notebook keeps what was drawn last: the whole of it, and nothing that stands above already."""
    first, second = Shown(), Shown()
    monkeypatch.setattr(views, "EVERY", 0.0)
    with loopback(lambda body: f"答{len(body['messages'])}。好。") as (url, _):
        talk = Talk(Speaker(model(url)), "說中文。")
        for output, turns in ((first, ["一", "二"]), (second, ["三"])):
            monkeypatch.setattr("IPython.display.display", output)
            views.converse(talk, turns)
    assert len(first.drawn) > 6 and first.drawn[0]["text/plain"] == "system: 說中文。\n> 一\n答2"
    assert first.drawn[-1]["text/plain"] == "system: 說中文。\n> 一\n答2。好。\n> 二\n答4。好。"
    assert second.drawn[-1]["text/plain"] == "> 三\n答6。好。" and "說中文" not in second.drawn[-1]["text/html"]


def test_what_a_model_wrote_is_no_markup():
    """A notebook executes HTML that is put into it."""
    hostile = "<script>alert(1)</script>"
    for page in (
        views.render("conversation", system=hostile, rounds=[(hostile, hostile)], name=hostile),
        views.render("table", names=[hostile], rows=[{"question": hostile, "answers": {hostile: hostile}}]),
    ):
        assert "<script" not in page and "&lt;script&gt;" in page


def test_a_run_that_is_half_done_says_what_is_missing(tmp_path, monkeypatch):
    """Before training the embedded base model answers; a model that is not there yet is one line, no KeyError."""
    monkeypatch.setenv("KYARA_RUNS", str(tmp_path))
    found = so_far("smoke")
    assert found == {} and list(models_of(found)) == ["base"] and choose(found).package == "gemma-3-270m"
    assert missing("smoke", found).endswith("05_sft and 07_dpo; python -m kyara_utils run smoke trains them")
    with pytest.raises(KyaraError, match="there is no model dpo yet: 07_dpo has not finished; see base"):
        choose(found, "dpo")
    with pytest.raises(KyaraError, match="did you mean qwen-0.5b"):
        choose(found, "qwen-05b")
    with pytest.raises(KyaraError, match="no recipe smok in params; did you mean smoke"):
        so_far("smok")
    sft = tmp_path / "smoke/05_sft"
    (sft / "sft").mkdir(parents=True)
    (sft / "manifest.json").write_text(json.dumps({"key": {"params": {"base_model": "gemma-3-270m"}}}))
    half = so_far("smoke")
    assert list(models_of(half)) == ["base", "sft"] and choose(half).style == "full"
    assert "the models of 07_dpo;" in missing("smoke", half)


def test_the_base_model_is_the_one_that_was_trained(tmp_path):
    """Step 08 writes its GGUF; once another base is trained, that of the old one would answer in the new one's name."""
    outputs, gguf = {"sft": {"sha256": "new"}}, tmp_path / "08_eval/base.gguf"
    step = {"folder": tmp_path / "05_sft", "key": {"params": {"base_model": "a/b"}}, "outputs": outputs}
    for folder in (gguf.parent, step["folder"] / "base"):
        folder.mkdir(parents=True)
    gguf.touch()
    for inputs, current in (({"sft": "new"}, True), ({"sft": "old"}, False), ({}, False)):
        base = models_of({"05_sft": step, "08_eval": {"key": {"inputs": {"05_sft": inputs}}}})["base"]
        assert (base.gguf, bool(base.folder)) == ((str(gguf), False) if current else ("", True))
    assert models_of({"05_sft": step})["base"].folder, "of an evaluation that has only begun nothing is known"


def as_jinja(template):
    """Ollama's template in Jinja's words: the same actions and the same trimming of white space."""
    words = {
        "$opened := false": "set state.opened = false", "$opened = true": "set state.opened = true",
        "$opened = false": "set state.opened = false", "range .Messages": "for message in messages", "else": "else",
        "if not $opened": "if not state.opened", 'if eq .Role "system"': "if message.role == 'system'",
        'else if eq .Role "user"': "elif message.role == 'user'",
    }  # fmt: skip
    ends = []

    def action(found):
        dash, word = found[1], found[2].strip()
        if word == ".Content":
            return "{{ message.content }}"
        if word.startswith(("range", "if")):
            ends.append("endfor" if word.startswith("range") else "endif")
        return f"{{%{dash} {ends.pop() if word == 'end' else words[word]} %}}"

    return "{% set state = namespace() %}" + re.sub(r"\{\{(-?)(.*?)\}\}", action, template)


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "簡短回答。"}]])
def test_ollama_is_given_the_turns_of_training(system):
    """Another line break in a template is another model, and nothing says so."""
    turns = [("user", "一"), ("assistant", "二"), ("user", "三")]
    messages = system + [{"role": role, "content": content} for role, content in turns]
    environment = jinja2.Environment(keep_trailing_newline=True)
    ours = environment.from_string(INFERENCE_TEMPLATE).render(
        messages=messages, add_generation_prompt=True, bos_token=""
    )
    assert environment.from_string(as_jinja(OLLAMA_TEMPLATE)).render(messages=messages) == ours


def fields(architecture, turns):
    found = {"general.architecture": Field(8, architecture)}
    return found | ({"tokenizer.chat_template": Field(8, turns)} if turns else {})


def test_commands_suit_the_model_at_hand(tmp_path):
    """A command with another family's precision or a file that is not there is worse than none."""
    gemma, llama = tmp_path / "my gemma", tmp_path / "llama"
    for folder, config in ((gemma, {"model_type": "gemma3_text", "max_position_embeddings": 32768}), (llama, {})):
        folder.mkdir()
        (folder / "config.json").write_text(
            json.dumps({"model_type": "llama", "max_position_embeddings": 2048} | config)
        )
    write_gguf(gemma / "model.gguf", fields("gemma3", "turns"), [])
    found = {command.engine: command for command in commands(gemma, "kyara")}
    assert list(found) == ["vLLM", "SGLang", "llama.cpp", "Ollama"]
    assert (
        f"vllm serve '{gemma}' --served-model-name kyara --dtype bfloat16 --max-model-len 8192" in found["vLLM"].shell
    )
    assert f"FROM {gemma}/model.gguf\n" in found["Ollama"].shell and "fp16" in found["vLLM"].note
    for name, architecture, turns, word in (
        ("base.gguf", "gemma3", "", 'TEMPLATE """{{ .Prompt }}"""\nPARAMETER num_ctx 8192\n'),
        ("qwen.gguf", "qwen2", "turns", f"FROM {tmp_path}/qwen.gguf\nPARAMETER num_ctx 8192\n"),
    ):
        (llama_cpp, ollama) = commands(write_gguf(tmp_path / name, fields(architecture, turns), []), "kyara")
        assert f"llama-server -m {tmp_path}/{name} " in llama_cpp.shell and word in ollama.shell
    other = {command.engine: command for command in commands(llama, "kyara")}
    assert "--dtype auto --context-length 2048" in other["SGLang"].shell and "Ollama" not in other
    assert "convert_hf_to_gguf.py" in other["llama.cpp, Ollama"].shell
    line = curl(Model("it's", base_url="http://h/v1"), "http://h/v1")
    assert subprocess.run(f"printf %s {line.split('-d ')[1]}", shell=True, capture_output=True).stdout.startswith(
        b'{"model": "it\'s"'
    )


def test_an_address_is_asked_what_it_can_do():
    """A server without the chat template answers, too; hours later the rows are odd."""
    found = {one.name: one for one in asked_of(lambda body: '{"answer": "是"}')}
    assert list(found) == ["models", "answers", "streams", "system turn", "seed", "log-probs", "JSON schema"]
    assert found["models"].state == "toy" and not found["answers"].fix and found["seed"].state == "obeyed"
    assert found["JSON schema"].state.startswith("held") and found["log-probs"].fix
    (_, bad) = list(asked_of(lambda body: "好<end_of_turn>"))[:2]
    assert "its chat template is not applied" in bad.fix and bad.needed
    refusing = {
        one.name: one for one in asked_of(lambda body: (400, "no system role") if len(body["messages"]) > 1 else "好")
    }
    assert refusing["system turn"].fix == "set system_role: false in params/models.yaml"
    assert [one.needed for one in look_at("http://127.0.0.1:9/v1")] == [True]


def asked_of(reply, names=("toy",)):
    with loopback(reply, names) as (url, _):
        return list(look_at(url))


def test_an_address_without_a_list_of_models_is_of_use():
    assert [one.name for one in asked_of(lambda body: "玉山。", None)][:2] == ["answers", "streams"]


def test_a_page_that_is_no_api_is_told_in_one_line(tmp_path):
    """A mistyped address gave a traceback."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
    (tmp_path / "models").write_text("<html>")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (found,) = look_at(f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
    assert found.needed and "HTTP 501" in found.state


def test_a_key_is_not_carried_to_another_address(monkeypatch):
    """A redirection, followed, would take the header with it."""
    monkeypatch.setenv("TOY_KEY", "secret")
    with loopback(lambda body: "好") as (other, taken), loopback(lambda body: (302, f"{other}/models")) as (url, _):
        with pytest.raises(KyaraError, match="HTTP 302"):
            said(url, key_env="TOY_KEY")
    assert not taken


def test_stops_of_a_model_that_thinks_aloud_are_cut_here():
    """It was not told of them: they would end its reasoning."""
    request = Request(ASK.messages, max_tokens=20, stop=("\n",))
    with loopback(lambda body: "三千九百五十二公尺。\n問：") as (url, _):
        assert asked(model(url, reasoning_tokens=50), url, request).text == "三千九百五十二公尺。"


class Toy:
    """In place of a loaded model and its tokenizer."""

    def eval(self):
        return self

    def apply_chat_template(self, messages, **options):
        return {"input_ids": [1, 2, 3]}


def test_a_folder_that_is_served_streams_to_those_who_ask(monkeypatch):
    """OpenAI's clients ask for a stream more often than not, and for the list of models first."""
    monkeypatch.setattr(serving, "load_tokenizer", lambda folder: Toy())
    monkeypatch.setattr(serving, "load_model", lambda folder, *options: Toy())
    monkeypatch.setattr(serving, "choose_precision", lambda: ("cpu", "float32", ""))
    monkeypatch.setattr(
        serving, "generate", lambda model, tokenizer, asks: [Answer("玉山。", "stop", 2, [])] * len(asks)
    )
    with serving.FolderServer(Path("models/kyara-dpo"), port=0) as server:
        (grown, last_one) = said(server.base_url)
        found = list(look_at(server.base_url))
    assert (grown.text, last_one.text, last_one.finish_reason) == ("玉山。", "玉山。", "stop")
    assert found[0].state == "kyara-dpo" and found[1].state.endswith("玉山。") and not found[1].fix


def command(*words):
    return [sys.executable, "-m", "kyara_utils", *words, "--threads", "1"]


def spawned(words, environment):
    """A terminal with its own Ctrl-C, which a test suite in the background would hand down as ignored."""
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return pexpect.spawn(words[0], words[1:], env=environment, encoding="utf-8", timeout=300, preexec_fn=heard)


@pytest.fixture
def empty(tmp_path):
    """The environment of a machine on which nothing has run."""
    return os.environ | {"KYARA_RUNS": str(tmp_path), "KYARA_ROOT": str(ROOT), "PYTHONUNBUFFERED": "1"}


def test_a_real_terminal_talks_to_the_embedded_model(empty, tmp_path):
    """Prompt, answer, commands and end, as a person meets them; nothing is left in the runs folder."""
    child = spawned(command("chat", "smoke", "--max-tokens", "8"), empty)
    child.expect("not there yet: the models of 05_sft and 07_dpo")
    child.expect("base of smoke")
    child.expect("\r\n> ")
    child.sendline("台灣最高的山是哪一座？")
    child.expect("\r\n(.+)\r\n> ")
    assert child.match[1].strip() and "error" not in child.match[1]
    child.sendline("/system 用英文回答。")
    child.expect("a new conversation, system prompt: 用英文回答。")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0 and not list(tmp_path.rglob("*.sqlite"))


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_pipe_in_another_encoding_is_one_line(monkeypatch, errors):
    """A traceback of a decoder does not say that the file is Big5; a slip of the keyboard must not end the talk."""
    typed = io.TextIOWrapper(io.BytesIO("你好\n".encode() + "玉山多高\n".encode("big5")), "utf-8", errors)
    monkeypatch.setattr(sys, "stdin", typed)
    with pytest.raises(KyaraError, match="a line is not UTF-8 .*; convert it, as iconv -f big5 does"):
        list(lines(False))
    halves = io.TextIOWrapper(io.BytesIO(b"\xe7\x8e\n" + "玉山\n".encode()), "utf-8", "surrogateescape")
    monkeypatch.setattr(sys, "stdin", halves)
    assert list(lines(True)) == ["玉山"]


def test_lines_of_a_pipe_are_answered(empty):
    """A script must see which answer belongs to which line."""
    done = subprocess.run(
        command("chat", "smoke", "--max-tokens", "8"), input="你好\n/reset\n", env=empty, capture_output=True, text=True
    )
    assert done.returncode == 0 and "> 你好\n" in done.stdout and "> /reset\na new conversation" in done.stdout


@pytest.mark.chain
def test_the_tour_runs_before_anything_else(tmp_path, monkeypatch):
    """Run all is the first thing that a visitor does: without a run it has to end, and to show what it says."""
    import papermill

    monkeypatch.setenv("KYARA_RUNS", str(tmp_path / "runs"))
    short = {"turns": ["你好"], "compared": ["台灣最高的山是哪一座？"], "max_tokens": 8}
    tour = papermill.execute_notebook(
        str(ROOT / "notebooks/00_tour.ipynb"), str(tmp_path / "00.ipynb"), short, cwd=str(ROOT), progress_bar=False
    )
    outputs = [output for cell in tour.cells for output in cell.get("outputs", ())]
    said = "".join(output.get("text", "") for output in outputs)
    assert "models: base\nnot there yet: the models of 05_sft and 07_dpo" in said and "llama-server -m" in said
    pages = [output["data"]["text/html"] for output in outputs if output["output_type"] == "display_data"]
    assert len(pages) == 7 and all("kyara" in page for page in pages) and "你好" in pages[0]
    assert not list((tmp_path / "runs").rglob("*.*"))


def test_a_served_model_is_reached_by_its_own_check(empty):
    """The printed address has to answer, and to stop when it is told to."""
    child = spawned(command("serve", "smoke", "--port", "0"), empty)
    child.expect(r"answers at (http\S+/v1)\r")
    url = child.match[1]
    child.expect("Ctrl-C stops it")
    assert f"curl {url}/completions" in child.before and "ollama create kyara-smoke-base" in child.before
    done = subprocess.run(command("serve", "--check", url), env=empty, capture_output=True, text=True)
    assert re.search(r"ok +models .*gguf\n.*answers .*\nok +streams ", done.stdout), done.stdout + done.stderr
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
