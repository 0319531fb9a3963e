"""A student of any family: a tiny Llama and a tiny Qwen2 with their own chat templates through 05, 06, 07 and 08.

llama.cpp's export knows Gemma alone; another family must not fail three steps after its training was paid for.
"""

import math
import shutil
from types import SimpleNamespace

import pytest
import test_training as shared
from test_preference import Judge

from kyara_utils.evaluation import stages
from kyara_utils.evaluation.backends import backend
from kyara_utils.evaluation.backends.backend import EndpointBackend, TransformersBackend
from kyara_utils.llm import Request, connect, label_logprobs, trained
from kyara_utils.models import loading, serving
from kyara_utils.models.bases import base_model_dir
from kyara_utils.models.chat_templates import TemplateError, encode, render_row, token_ids, turn_end
from kyara_utils.models.generation import Ask, generate, prompt_ids
from kyara_utils.models.serving import servable
from kyara_utils.preference import answer_prompts, form_pairs, judge_pairs, mix, rlaif_preferences, spin_preferences
from kyara_utils.preference.rounds import train_rounds
from kyara_utils.runs.errors import KyaraError
from kyara_utils.training.data import prepare_conversations, split_held_out
from kyara_utils.training.generation_check import generation_test
from kyara_utils.training.pair_rows import pair_ids, prepare_pairs
from kyara_utils.training.settings import DpoSettings

cache, rows = shared.cache, shared.rows
CHATML = """\
{%- if messages[0]['role'] != 'system' -%}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"""
HEADERS = """\
{{ '<|begin|>' }}
{%- for message in messages -%}
{{ '<|head|>' + message['role'] + '<|body|>' + message['content'] | trim + '<|eot|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|head|>assistant<|body|>' }}{%- endif -%}"""
FAMILIES = {  # model type: chat template, special tokens; the first ends a text, a second one begins it
    "qwen2": (CHATML, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], None),
    "llama": (HEADERS, ["<|end|>", "<|begin|>", "<|head|>", "<|body|>", "<|eot|>"], "<|begin|>"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def student(request, cache):
    """Two random layers and a byte-level tokenizer, as a folder of the Hub would hold them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    template, special, bos = FAMILIES[request.param]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({text: n for n, text in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=special[0], bos_token=bos, chat_template=template,
        additional_special_tokens=special[1:], clean_up_tokenization_spaces=False,
    )  # fmt: skip
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        request.param, vocab_size=len(wrapped), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3,
        bos_token_id=wrapped.bos_token_id, eos_token_id=wrapped.eos_token_id, tie_word_embeddings=True,
    )  # fmt: skip
    folder = cache / request.param
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


def test_the_answer_and_its_end_carry_the_loss(student):
    """A template without generation tags gives a mask of zeros, and trainers drop such rows or train on everything."""
    tokenizer = loading.load_tokenizer(student)
    talk = [*shared.talk("q", "one"), *shared.talk("r", "two")]
    text = render_row(tokenizer, talk)
    end = tokenizer.decode([turn_end(tokenizer)])
    assert text.count("⟦") == 2 and f"⟦one{end}" in text and f"⟦two{end}" in text and "⟦q" not in text
    kept, rejects, _ = prepare_conversations([{"id": "r", "messages": talk}], tokenizer, 200)
    assert kept and not rejects, "a family without a begin-of-text token is no error"


def test_a_template_that_rewrites_earlier_turns_is_refused(student):
    """Reasoning models drop earlier thoughts: no span of such a row is certain to be what the model will see."""
    tokenizer = loading.load_tokenizer(student)
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "message['content']", "(message['content'] if loop.last else message['content'][:1])"
    )
    talk = [*shared.talk("q", "one"), *shared.talk("r", "two")]
    with pytest.raises(TemplateError, match="renders turn 2 otherwise .* generation tags"):
        encode(tokenizer, talk)
    _, (row,), counts = prepare_conversations([{"id": "r", "messages": talk}], tokenizer, 200)
    assert row["rule"] == "template" and counts["rows"] == 1


def test_a_folder_without_a_template_says_what_to_add(student, tmp_path):
    """A base model's tokenizer has no turns; the error of the template engine names no file."""
    bare = shutil.copytree(student, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(KyaraError, match=r"no chat template; add a chat_template\.jinja"):
        loading.load_tokenizer(bare)


def test_an_answer_does_not_depend_on_its_batch(student):
    """Padding that is seen, or noise drawn in common, would make answers depend on who asked at the same time."""
    tokenizer, model = loading.load_tokenizer(student), loading.load_model(student).eval()
    prompts = [token_ids(tokenizer, [{"role": "user", "content": text}], True) for text in ("a", "much longer", "b")]
    asks = [Ask(ids, 5 + n, temperature=0.9 * (n != 1), seed=n, repeat_penalty=1.1, top_logprobs=3 * (n == 2))
            for n, ids in enumerate(prompts)]  # fmt: skip
    alone, together = [generate(model, tokenizer, [ask])[0] for ask in asks], generate(model, tokenizer, asks)
    assert [one.text for one in alone] == [one.text for one in together]
    assert [len(one.logprobs) for one in together] == [0, 0, max(1, together[2].tokens)]
    other = generate(model, tokenizer, [Ask(prompts[0], 5, temperature=0.9, seed=9)])[0]
    assert other.text != alone[0].text


def test_log_probabilities_are_those_of_the_model(student, tmp_path):
    """A judge that reads scores after temperature or penalty, or of another position, reads noise."""
    import torch

    tokenizer, model = loading.load_tokenizer(student), loading.load_model(student)
    with torch.no_grad():
        scores = model(torch.tensor([prompt_ids(tokenizer, "Answer: ")])).logits[0, -1].log_softmax(-1)
    ask = Request([{"role": "user", "content": "Answer: "}], max_tokens=1, top_logprobs=len(tokenizer), raw=True)
    with connect(trained("student", student), tmp_path / "calls.sqlite") as client:
        (raw,) = client.ask([ask], progress=False)
        (chat,) = client.ask([Request(ask.messages, max_tokens=1, top_logprobs=64)], progress=False)
        (held,) = client.ask([Request(ask.messages, schema={"type": "object"})], progress=False)
    found = label_logprobs(raw, ("A", "B"))
    ids = {label: tokenizer.convert_tokens_to_ids(label) for label in found}
    assert found == pytest.approx({label: scores[number].item() for label, number in ids.items()}, abs=1e-4)
    assert len(found) == 2 and sum(map(math.exp, raw.logprobs[0].values())) < 1.0001
    assert len(chat.logprobs[0]) > 20 and "not held to a JSON schema" in held.error


def test_a_stage_of_the_evaluation_is_asked_through_the_ledger(student, tmp_path, monkeypatch):
    """Its letters are those of the log-likelihoods; a rerun asks nothing again."""
    monkeypatch.setattr(backend, "TOP", 300)  # of a random model the letters are not among the likely tokens
    items = [{"id": str(n), "question": text, "answer": "B"} for n, text in enumerate(("1+1?", "a longer one?", "c"))]
    stage = stages.Stage("dpo", student, trained("dpo", student))
    run = SimpleNamespace(store_path=tmp_path / "calls.sqlite", input=lambda *_: tmp_path / "none")
    local = TransformersBackend(loading.load_model(student), loading.load_tokenizer(student))
    wanted, talk = local.choose(items), [{"id": "g", "messages": [{"role": "user", "content": "a"}]}]
    for calls in (4, 0):
        with stages.asked(stage, run) as served:
            found, said = served.choose(items), served.generate(talk, 6)
            assert (served.usage["calls"], served.usage["stored"]) == (calls, 4 - calls)
        assert [row["logprobs"] for row in found] == [pytest.approx(row["logprobs"], abs=1e-4) for row in wanted]
        assert [row["chosen"] for row in found] == [row["chosen"] for row in wanted] and said == local.generate(talk, 6)


def test_a_cpu_serves_in_the_numbers_that_no_measurement_chooses(student, monkeypatch):
    """The ledger keeps answers under the weights; a busy moment must not decide which numbers they were computed in."""
    import torch

    monkeypatch.setattr(serving, "choose_precision", lambda: ("cpu", "bfloat16", "measured in a busy moment"))
    with serving.FolderServer(student) as server:
        assert server.model.dtype == torch.float32


def test_the_whole_way_of_a_student(student, rows, tmp_path):
    """05 trains and tries it, 06 samples it, 07 trains it on pairs and lets it play, 08 asks it, all without a GGUF."""
    store, vocabulary = tmp_path / "calls.sqlite", tmp_path / "none"
    base, gguf = base_model_dir(str(student), tmp_path / "base")
    tokenizer = loading.load_tokenizer(base)
    kept, rejects, _ = prepare_conversations(rows, tokenizer, 128)
    training, held_out = split_held_out(kept, 0.2, 0)
    call = dict(epochs=25, max_length=128, seed=1, learning_rate=1e-2)
    sft = tmp_path / "sft"
    (sft / "adapter").mkdir(parents=True)
    for stale in ("model.gguf", "vocabulary.json", "model-00001-of-00002.safetensors", "adapter/x"):
        (sft / stale).write_text("of a Gemma that was trained here before")
    record = shared.train_sft(base, training, held_out, sft, **call)
    assert gguf is None and not rejects and record["held_out_after"] < record["held_out_before"]
    assert not list(sft.glob("*.gguf")) + list(sft.glob("vocabulary.json")) + list(sft.glob("adapter"))
    assert servable(sft) == sft and trained("sft", sft).embedded
    checks = generation_test("sft", sft, [row["messages"][:1] for row in rows[:3]], store, max_tokens=30)
    assert len(checks) == 3 and any(row["stopped"] for row in checks)

    prompts = [row["messages"][0]["content"] for row in rows]
    with connect(trained("sft", sft), store) as client:
        samples = answer_prompts(client, prompts, 12, 0.8, 0)
    with connect(trained("base", base), store) as client:
        others = answer_prompts(client, prompts, 12, 0.8, 0)
    assert len({row["text"] for row in samples + others}) > 1 and not any(row["error"] for row in samples + others)
    pairs, _ = form_pairs(samples + others)
    verdicts = judge_pairs(Judge(lambda one, two: len(one) - len(two)), [pair for pair, _, _ in pairs], "logprob")
    rlaif, _ = rlaif_preferences(pairs, verdicts, "judge", {})
    spin, _ = spin_preferences(rows, samples)
    preferences, _ = mix([rlaif, spin])
    fit, unfit, _ = prepare_pairs(preferences, tokenizer, 128)
    assert fit and len(fit) + len(unfit) == len(preferences)
    end = tokenizer.decode([turn_end(tokenizer)])
    assert end in tokenizer.decode(pair_ids(tokenizer, fit[0])["chosen_ids"])

    sampling = {"max_tokens": 8, "temperature": 0.5, "seed": 0, "judges": [], "judge_mode": "logprob", "budget": 0.0}
    settings = DpoSettings(learning_rate=1e-3, batch_size=2, max_length=128, seed=1)
    rounds, _, _ = train_rounds(
        sft, fit, tmp_path, more_rounds=1, sampling=sampling, store=store, vocabulary=vocabulary, held_out=held_out,
        settings=settings, progress=False,
    )  # fmt: skip
    assert [one["model"] for one in rounds] == ["dpo_round_1", "dpo"]
    assert all(one["curve"][0]["loss"] == pytest.approx(math.log(2), abs=1e-4) for one in rounds)

    with connect(trained("dpo", servable(tmp_path / "dpo")), store) as client:
        (reply,) = EndpointBackend(client).generate([{"id": "g", "messages": rows[0]["messages"][:1]}], 8)
    assert reply["text"] is not None and not reply["error"]


def test_an_endpoint_of_that_name_answers_for_the_weights_here(student, tmp_path):
    """A served student that is trained anew must not be answered from the ledger of its older weights."""
    from kyara_utils.llm.connect import identity_of

    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "models.yaml").write_text("sft: {base_url: http://127.0.0.1:9/v1, model: mine}\n")
    model = trained("sft", student, root=tmp_path)
    assert model.urls == ["http://127.0.0.1:9/v1"] and not model.embedded
    assert identity_of(model) == f"folder {loading.weights_sha256(student)}"


def test_lora_finds_the_layers_of_other_families(student, rows, tmp_path):
    record = shared.train_sft(
        student, rows[:4], rows[4:], tmp_path / "lora", learning_rate=1e-2, max_length=128, method="lora", epochs=2
    )
    assert record["held_out_after"] < record["held_out_before"]
