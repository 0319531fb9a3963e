"""What a user can do wrong, and what must be said before hours are spent: rows, models, memory, precision, methods."""

import copy
import json
import math
import resource
import shutil
from types import SimpleNamespace

import pytest
import test_training as shared
import yaml

from kyara_utils.models import loading, precision
from kyara_utils.models.bases import base_model_dir, check_tokenizer
from kyara_utils.models.gguf_export import export_gguf
from kyara_utils.runs import params
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.schemas import guessed_schema
from kyara_utils.runs.tables import write_rows
from kyara_utils.training import by_hand, estimate, fit, launch, memory, methods, report, show, stage, trainer_run
from kyara_utils.training.data import prepare_conversations, split_held_out
from kyara_utils.training.generation_check import answer_by_transformers, generation_rows, generation_test, judged
from kyara_utils.training.methods import check_method
from kyara_utils.training.pair_rows import prepare_pairs
from kyara_utils.training.settings import SftSettings
from kyara_utils.training.trainer_config import check_lora, check_trainer

cache, tiny_gguf, base, gemma2, tokenizer, rows, pairs = (
    getattr(shared, name) for name in ("cache", "tiny_gguf", "base", "gemma2", "tokenizer", "rows", "pairs")
)
train_sft, train_dpo = shared.train_sft, shared.train_dpo
SFT = shared.SFT | {"seed": 1}
DPO = shared.DPO | {"seed": 1}


def said(text: str, role: str = "assistant") -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({}, ""),
        ({"chosen": said("")}, "bad_turns"),
        ({"rejected": said("x", "user")}, "bad_turns"),
        ({"prompt": said("hi", "tool")}, "bad_turns"),
        ({"prompt": []}, "bad_turns"),
        ({"chosen": said("z")}, "same_answers"),
        ({"rejected": said("z" * 90)}, "too_long"),
        ({"chosen_win": 1.5}, "no_probability"),
        ({"rejected_win": None}, "no_probability"),
        ({"prompt": [*said("hi", "user"), *said("1. x")], "chosen": said(" ")}, "bad_turns"),
    ],
)
def test_every_pair_is_kept_or_rejected_by_name(tokenizer, pairs, change, rule):
    """TRL drops a pair whose prompt is too long and trains on an empty answer, both without a word."""
    pair = {**pairs[0], "rejected": said("z"), "chosen_win": 0.9, "rejected_win": 0.1, **change}
    kept, rejects, counts = prepare_pairs([pair], tokenizer, 64, "sppo_soft")
    assert [row["rule"] for row in rejects] == ([rule] if rule else []) and len(kept) + len(rejects) == 1
    assert counts["rows"] == 1 and counts[rule or "kept"] == 1
    assert not rejects or json.loads(rejects[0]["row"]) == pair


USER, ANSWER, MORE = said("hi", "user"), said("yes"), said("and?", "user")


@pytest.mark.parametrize(
    "shape",
    [
        {"chosen": USER + said("a"), "rejected": USER + said("z")},  # TRL's implicit prompt
        {"prompt": [], "chosen": USER + said("a"), "rejected": USER + said("z")},
        {"prompt": "hi", "chosen": USER + said("a"), "rejected": USER + said("z")},  # HH, ultrafeedback
        {"prompt": "hi", "chosen": "a", "rejected": "z"},
        {"prompt": USER, "chosen": ANSWER + MORE + said("a"), "rejected": ANSWER + MORE + said("z")},
        {"chosen": USER + ANSWER + MORE + said("a"), "rejected": USER + ANSWER + MORE + said("z")},  # capybara
        {"prompt": MORE, "chosen": USER + ANSWER + MORE + said("a"), "rejected": USER + ANSWER + MORE + said("z")},
    ],
)
def test_no_turn_of_the_user_carries_loss(base, tokenizer, tmp_path, shape):
    """Rows whose sides are whole conversations crashed, or trained the model to write the user's part."""
    (row,), rejects, _ = prepare_pairs([{"id": "p", **shape}], tokenizer, 200)
    assert not rejects and [turn["role"] for turn in row["chosen"] + row["rejected"]] == ["assistant"] * 2
    assert tokenizer.decode(row["chosen_ids"]) == "a<end_of_turn>\n" and row["prompt"][-1]["role"] == "user"
    assert tokenizer.decode(row["prompt_ids"]).count("<start_of_turn>user") == len(row["prompt"]) // 2 + 1
    if "prompt" not in shape:
        record = train_dpo(base, [row], tmp_path / "dpo", **DPO | {"max_length": 200})
        assert record["curve"][0]["loss"] == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.parametrize(
    "shape",
    [
        {"chosen": USER + said("a"), "rejected": MORE + said("z")},
        {"prompt": "other", "chosen": USER + said("a"), "rejected": USER + said("z")},
        {"prompt": USER, "chosen": None, "rejected": said("z")},
        {"prompt": USER, "chosen": said("a") + USER, "rejected": said("a") + USER},
    ],
)
def test_sides_of_two_conversations_are_no_pair(tokenizer, shape):
    """A preference between answers to different prompts teaches nothing that it says."""
    kept, (row,), _ = prepare_pairs([{"id": "p", **shape}], tokenizer, 200)
    assert not kept and row["rule"] == "bad_turns"


def test_a_share_above_zero_holds_a_document_out(base):
    """0.002 of a few rows was no row, and the step ended after its training was paid for."""
    rows = [{"id": f"r{n}", "parents": [f"c{n // 2}"]} for n in range(8)]
    train, held_out = split_held_out(rows, 0.002, 0)
    assert len(held_out) == 2 and len(train) == 6 and split_held_out(rows, 0.0, 0)[1] == []
    assert len(split_held_out(rows, 0.99, 0)[0]) == 2, "something is left to train on"
    with pytest.raises(KyaraError, match="held_out_share 0.1: all 2 rows are of one document; set it to 0.0"):
        split_held_out(rows[:2], 0.1, 0)


def test_the_equations_give_what_the_trainer_recorded(base, tokenizer, rows, pairs, tmp_path):
    """A notebook's number that is computed by the code it explains would agree with any mistake."""
    record = train_sft(base, rows[:6], rows[6:], tmp_path / "sft", **SFT)
    model = loading.load_model(tmp_path / "sft").eval()
    alone = by_hand.answer_loss(model, tokenizer, rows[6])
    assert record["held_out_first"] == pytest.approx(alone, abs=1e-5) and record["sequences"] < 6
    assert by_hand.packed_answer_loss(model, tokenizer, [rows[0], rows[6]]) == pytest.approx(alone, abs=1e-5)
    done = train_dpo(base, pairs, tmp_path / "dpo", **DPO)
    margin = by_hand.pair_margin(tmp_path / "dpo", base, pairs[0], DPO["beta"])
    assert done["first_margin"] == pytest.approx(margin, abs=1e-5) != done["final_margin"]


def test_tables_without_held_out_rows(base, rows, pairs, tmp_path):
    """held_out_share 0.0 is a choice; it must not end the step at its last cell."""
    first = train_sft(base, rows, [], tmp_path / "sft", **SFT)
    assert report.held_out_table(first, first, []) == [] and "held-out loss – → –" in report.stage_line(first)
    one = train_dpo(base, pairs, tmp_path / "dpo", **DPO) | {"round": 1, "model": "dpo"}
    one |= {"sources": ["spin"], "held_out": None}
    assert "held-out loss – → –" in "".join(report.round_lines([one], None))
    assert "on held-out pairs: none was held out" in "".join(report.round_lines([one], None))
    assert {row["held_out_margin"] for row in report.rounds_curve([one])} == {""}
    assert "held_out" not in report.dpo_metrics(4, one) and report.rounds_table(None, [one])[1]["held_out"] == ""
    whole = train_sft(base, rows[:6], [row | {"source": "a"} for row in rows[6:]], tmp_path / "b", **SFT)
    table = report.held_out_table(whole, whole, [row | {"source": "a"} for row in rows[6:]])
    assert [(row["model"], row["split"], row["n"]) for row in table] == [
        (model, split, 2) for split in ("all", "a") for model in ("base", "sft_base", "sft")
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"loss": "dpo"}, "loss: unknown value 'dpo'; use one of sigmoid"),
        ({"beta": 0.0}, "beta 0.0 must be above 0"),
        ({"loss": "sppo_soft", "sft_weight": 0.1}, "sft_weight: sppo_soft"),
        ({"loss": "sppo_soft"}, "no_probability"),
        ({"method": "dora"}, "method: unknown value 'dora'; use one of full, lora, qlora"),
        ({"backend": "ray"}, "backend: unknown value 'ray'; use one of trl, unsloth, ddp, fsdp2, zero2, zero3"),
        ({"backend": "fsdp2"}, "backend fsdp2 needs GPUs"),
        ({"backend": "unsloth"}, "unsloth"),
    ],
)
def test_bad_settings_end_before_anything_is_trained(base, pairs, tmp_path, call, message):
    """A misspelt loss found after the reference was computed costs hours at scale."""
    with pytest.raises(KyaraError, match=message):
        train_dpo(base, pairs, tmp_path / "dpo", **DPO | call)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"trainer": {"weight_decy": 0.1}}, "trainer: DPOConfig has no field weight_decy; did you mean weight_decay"),
        (
            {"trainer": {"weight_decay": "1e-2"}},
            "weight_decay must be float, not str '1e-2'; write 1.0e-4",
        ),
        ({"trainer": {"max_steps": True}}, "max_steps must be int, not bool True"),
        ({"trainer": {"optim": "adam"}}, "optim must be one of adamw_torch"),
        ({"trainer": {"output_dir": "x"}}, "output_dir cannot be set there: a step writes into its own folder"),
        ({"trainer": {"learning_rate": 1.0}}, "learning_rate cannot be set there: set the parameter learning_rate"),
        ({"trainer": {"loss_type": ["ipo"]}}, "loss_type cannot be set there: set the parameter loss"),
        ({"trainer": {"warmup_steps": -1}}, "trainer: warmup_steps must be an integer or a float; correct it"),
        ({"lora": {"r": 8}}, "lora: r would change nothing with method full; set method to lora or qlora"),
        ({"method": "lora", "lora": {"rank": 8}}, "lora: LoraConfig has no field rank; did you mean rank_pattern"),
        ({"method": "lora", "lora": {"lora_dropout": "much"}}, "lora_dropout must be float, not str 'much'; correct"),
        (
            {"method": "lora", "lora": {"modules_to_save": ["lm_head"]}},
            "modules_to_save cannot be set there: emb",
        ),
        ({"method": "lora", "lora": {"target_modules": ["q_proj", "lm_head"]}}, "target_modules may not hold lm_head"),
        ({"method": "lora", "lora": {"target_modules": ["nowhere"]}}, "lora: Target modules .*nowhere.*; correct it"),
    ],
)
def test_a_field_that_the_trainer_does_not_take_is_one_line(base, pairs, tmp_path, call, message):
    """transformers takes many wrong values silently; PEFT finds a wrong name after the model is loaded."""
    with pytest.raises(KyaraError, match=message) as caught:
        train_dpo(base, pairs, tmp_path / "dpo", **DPO | call)
    assert "\n" not in str(caught.value) and not list(tmp_path.rglob("*.safetensors"))


def test_fields_of_the_trainer_and_of_lora_arrive_there(base, rows, tmp_path):
    """A mapping that is checked and then dropped would train by the defaults under another name."""
    from safetensors.numpy import load_file

    first = train_sft(base, rows, [], tmp_path / "a", **SFT)
    other = train_sft(
        base, rows, [], tmp_path / "b", **SFT | {"trainer": {"max_steps": 3, "lr_scheduler_type": "constant"}}
    )
    rates = [point["learning_rate"] for point in other["curve"]]
    assert len(first["curve"]) > len(rates) == 3 and other["parameters"]["trainer"]["max_steps"] == 3
    assert rates[1] == rates[2] != first["curve"][2]["learning_rate"]
    tuned = SFT | {"method": "lora", "lora": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}}
    train_sft(base, rows, [], tmp_path / "lora", **tuned)
    adapter = load_file(tmp_path / "lora" / "adapter" / "adapter_model.safetensors")
    assert {min(weight.shape) for weight in adapter.values()} == {4} and all("q_proj" in name for name in adapter)


@pytest.mark.parametrize("step", ["05_sft", "07_dpo"])
def test_mappings_are_set_from_the_command_line_and_from_yaml(step):
    """A field that only a notebook's editor can set is no parameter of a batch job."""
    root = shared.Path(__file__).resolve().parents[1]
    declared = params.declared(root / "notebooks" / f"{step}.ipynb")
    given = params.parse_settings([f"{step[:2]}.trainer={{weight_decay: 0.1, save_steps: 50}}"], [step])[step]
    assert params.resolve(declared, given, "--set")["trainer"] == {"weight_decay": 0.1, "save_steps": 50}
    for recipe in sorted((root / "params").glob(f"*/{step}.yaml")):
        values = params.resolve(declared, yaml.safe_load(recipe.read_text(encoding="utf-8")), recipe.name)
        check_trainer("sft" if step == "05_sft" else "dpo", values["trainer"])
        check_lora(values["lora"], values["method"])


def test_rows_are_tokenised_once(base, tokenizer, rows, pairs, tmp_path, monkeypatch):
    """Three passes of a tokenizer over millions of rows are hours; a second pass may also read them otherwise."""
    kept, _, _ = prepare_conversations(rows, tokenizer, 64)
    fit_pairs, _, _ = prepare_pairs(pairs, tokenizer, 64)
    plain = train_sft(base, rows[:6], rows[6:], tmp_path / "plain", **SFT)
    monkeypatch.setattr("kyara_utils.training.data.encode", lambda *given: pytest.fail("tokenised again"))
    monkeypatch.setattr("kyara_utils.training.pair_rows.pair_ids", lambda *given: pytest.fail("tokenised again"))
    record = train_sft(base, kept[:6], kept[6:], tmp_path / "sft", **SFT)
    assert (record["weights"], record["key"]) == (plain["weights"], plain["key"])
    assert train_dpo(base, fit_pairs, tmp_path / "dpo", **DPO)["curve"]


def test_when_a_checkpoint_is_kept_does_not_make_another_model(base, rows, tmp_path):
    """A run that is resumed with other checkpoints or another limit of time is the same run."""
    one = SftSettings(**SFT, trainer={"save_steps": 5, "weight_decay": 0.1}, stop_at=1.0)
    assert one.deciding() == SftSettings(**SFT, trainer={"weight_decay": 0.1}, processes=0).deciding()
    assert one.deciding() != SftSettings(**SFT, trainer={"weight_decay": 0.2}).deciding()


def test_unsloth_and_bitsandbytes_are_named_with_the_way_to_get_them(base, gemma2, monkeypatch):
    """A traceback out of a missing optional package tells nobody which extra brings it."""
    assert methods.packs("trl", gemma2) and methods.packs("unsloth", base) and not methods.packs("unsloth", gemma2)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(KyaraError, match=r"backend unsloth needs the package unsloth.*pip install '\.\[gpu\]'"):
        check_method("lora", "unsloth", "cuda")
    with pytest.raises(KyaraError, match=r"backend zero2 needs the package deepspeed.*'\.\[zero\]'"):
        launch.world_size("zero2", 2)
    with pytest.raises(KyaraError, match="bitsandbytes, which is not installed"):
        check_method("qlora", "trl", "cuda")


def test_nan_ends_training_and_the_last_good_checkpoint_stays(base, rows, tmp_path):
    """The trainer's own filter logs a NaN as the mean of the losses before it and goes on to save broken weights."""
    with pytest.raises(KyaraError, match=r"SFT base: (loss|grad_norm) is (nan|inf) at step \d.*lower learning_rate"):
        train_sft(
            base,
            rows,
            [],
            tmp_path / "sft",
            **SFT | {"learning_rate": 1e38, "max_length": 32},
            trainer={"save_steps": 1},
        )
    (checkpoints,) = (tmp_path / "sft").glob("checkpoints-*")
    last = trainer_run.last_checkpoint(checkpoints)
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    assert all(math.isfinite(point["loss"]) for point in history)
    assert not (tmp_path / "sft" / stage.RECORD).exists()


@pytest.mark.parametrize(
    "largest", [100_000, 500_000]
)  # the weights do not fit; the weights do, the optimizer does not
def test_full_disk_is_said_in_one_line(base, rows, tmp_path, largest):
    """A checkpoint that cannot be written must not look like a failure of the training code."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        with pytest.raises(KyaraError, match="cannot write to .*; free or remount the disk, then rerun"):
            train_sft(base, rows, [], tmp_path / "sft", **SFT, trainer={"save_steps": 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert trainer_run.last_checkpoint(next((tmp_path / "sft").glob("checkpoints-*"))) is None


def test_the_disk_is_asked_before_the_model_is_loaded(base, rows, tmp_path, monkeypatch):
    """A disk that fills up at the first checkpoint costs the hours before it."""
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**20))
    with pytest.raises(KyaraError, match="needs about .* for the model and its checkpoints, 0.0 GB are free; free the"):
        train_sft(base, rows, [], tmp_path / "sft", **SFT, trainer={"save_steps": 1})
    assert train_sft(base, rows, [], tmp_path / "small", **SFT)["curve"], "without checkpoints it fits"


def test_a_foreign_tokenizer_is_refused(base, tokenizer, rows, tmp_path):
    """Ids beyond the table crash in the middle of an epoch; ids within it train the wrong rows silently."""
    check_tokenizer(base, tokenizer)
    more = copy.deepcopy(tokenizer)
    more.add_tokens("<image_soft_token>", special_tokens=True)  # as Gemma 3's text models have it: without a row
    check_tokenizer(base, more)
    other = shutil.copytree(base, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    for change, message in (({"vocab_size": 100}, "the model 100 rows"), ({"bos_token_id": 7}, "<bos> is id 2")):
        (other / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(KyaraError, match=message):
            train_sft(other, rows, [], tmp_path / "sft", **SFT)


def test_base_from_a_folder_is_linked_and_checked(base, tmp_path):
    """Pickled weights run code when they are loaded; a missing shard shows only after minutes of loading."""
    linked, gguf = base_model_dir(str(base), tmp_path / "base")
    assert gguf is None and linked.resolve() == base.resolve() and (linked / "config.json").is_file()
    assert base_model_dir(str(base), tmp_path / "base")[0] == linked
    broken = shutil.copytree(base, tmp_path / "broken")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(KyaraError, match="lacks model-00002-of-00002.safetensors"):
        base_model_dir(str(broken), tmp_path / "base")
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    with pytest.raises(KyaraError, match="convert the .bin files to safetensors"):
        base_model_dir(str(broken), tmp_path / "base")
    assert (base / "model.safetensors").is_file(), "the link may go, the user's model must not"


@pytest.mark.parametrize("name", ["nowhere.gguf", "no model", "../x/y"])
def test_unknown_base_is_refused_without_asking_the_hub(name, tmp_path, monkeypatch):
    """A typing error must not become a request to a server."""
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("asked the Hub"))
    with pytest.raises(KyaraError, match="give gemma-3-270m, a .gguf, a folder or owner/model"):
        base_model_dir(name, tmp_path / "base")


def test_hub_errors_become_one_line(tmp_path, monkeypatch):
    """A gated model fails with the client's own exception types, forty lines deep."""

    def refuse(repository, revision, cache_dir, allow_patterns):
        assert (repository, revision) == ("google/gemma-2-2b-it", "main") and "*.bin" not in allow_patterns
        raise RuntimeError("403")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(KyaraError, match="google/gemma-2-2b-it@main did not arrive.*HF_TOKEN"):
        base_model_dir("google/gemma-2-2b-it@main", tmp_path / "base")


def test_precision_follows_the_measurement():
    """bf16 by belief took fifteen times as long on a CPU that emulates it."""
    assert precision._on_cpu({"float32": 60.0, "bfloat16": 0.9})[0] == "float32"
    assert precision._on_cpu({"float32": 60.0, "bfloat16": 900.0})[0] == "bfloat16"
    assert "0.9 GFLOP/s in bf16, 60 in fp32" in precision._on_cpu({"float32": 60.0, "bfloat16": 0.9})[1]


def test_memory_is_asked_before_the_model_is_loaded(base, rows, tmp_path, monkeypatch):
    """A kernel killed for memory leaves a notebook that says every cell completed."""
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**20)
    monkeypatch.setattr(loading, "load_model", lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(KyaraError, match=r"needs about .* GB on cpu, 0\.0 GB are free .*; (set|lower|use) "):
        train_sft(base, rows, [], tmp_path / "sft", **SFT)


def test_memory_of_the_paper_scale_run():
    """Full training of 2.6 B parameters is 42 GB of states: one 80 GB device holds it, one T4 does not."""
    facts = estimate.SHAPES["google/gemma-2-2b-it"]
    job = {"batch_size": 1, "max_length": 4096, "method": "full", "backend": "trl", "dtype": "bfloat16"}
    full = memory.peak_memory(facts, job, "cuda")
    assert sum(full[name] for name in ("weights", "gradients", "optimizer")) == 18 * facts["parameters"]
    assert 47e9 < sum(full.values()) < 80e9
    shards = memory.peak_memory(facts, job | {"backend": "fsdp2"}, "cuda", processes=8)
    assert shards["optimizer"] == full["optimizer"] / 8 and shards["activations"] == full["activations"]
    small = job | {"method": "qlora", "dtype": "float32"}
    for recipe in ({"max_length": 1024}, {"max_length": 768, "beta": 0.1}):  # of kaggle-t4: SFT, DPO
        assert sum(memory.peak_memory(facts, small | recipe, "cuda").values()) < 14.5e9
    pairs = memory.peak_memory(facts, job | {"max_length": 2048, "beta": 0.1}, "cuda")
    assert sum(pairs.values()) < 80e9


def test_flop_of_a_known_model(base, capsys):
    """Gemma-2-2b on 4.51 B tokens is about 7e19 FLOP by the rule of six; a plan needs no download."""
    facts = estimate.SHAPES["google/gemma-2-2b-it"]
    assert estimate.training_flop(facts, 4.51e9, 0) == pytest.approx(7.07e19, rel=0.01)
    assert estimate.training_flop(facts, 4.51e9, 4096) > 1.1 * 7.07e19

    counted = {id(weight): weight.numel() for weight in loading.load_model(base).parameters()}
    assert estimate.model_facts(base)["parameters"] == sum(counted.values())
    found = estimate.estimate(base, 1000, 64)
    one, eight = (run["hours"] for run in found["runs"] if run["on"] == "H100")
    assert one == pytest.approx(8 * eight) and "1 × H100" in estimate.as_text(found)
    words = estimate.as_text({"parameters": 1, "tokens": 1, "flop": 1, "runs": [
        {"on": "T4", "gpus": 1, "hours": 7077.0, "usd": 2477.0}, {"on": "T4", "gpus": 1, "hours": 2.0, "usd": 0.7},
        {"on": "this CPU", "gpus": 1, "hours": 2.0, "usd": 0.0},
    ]})  # fmt: skip
    assert "1 × T4: 295 days, about 2,477 USD of rent, or 236 weeks of Kaggle's free hours" in words
    assert "1 × T4: 2.0 h, about 0.70 USD of rent, free on Kaggle" in words and "CPU: 2.0 h\n" in words
    estimate.main(["google/gemma-2-2b-it", "--tokens", "4.51e9"])
    said = capsys.readouterr().out
    assert "2,614 M parameters × 4,510,000,000 tokens: 8.3e+19 FLOP" in said and "8 × H100: 7.2 h" in said
    with pytest.raises(KyaraError, match="is no transformers model folder"):
        estimate.main(["google/gemma-3-1b-it", "--tokens", "1"])


def test_adapters_are_merged_into_one_tied_model(base, tokenizer, rows, pairs, tmp_path):
    """A stage hands on a whole model; an untied head would be lost by the next reader of the folder."""
    from safetensors import safe_open

    tuned = {**SFT, "learning_rate": 3e-2, "method": "lora", "epochs": 1}
    record = train_sft(base, rows[:6], rows[6:], tmp_path / "sft", **tuned)
    assert record["held_out_after"] < record["held_out_before"]
    names = [set(safe_open(f / "model.safetensors", "np").keys()) for f in (base, tmp_path / "sft")]
    assert names[0] == names[1] and not any("lora" in name for name in names[1])
    again = train_sft(base, rows[:6], rows[6:], tmp_path / "again", **tuned)
    assert again["weights"] == record["weights"]
    dpo = train_dpo(
        tmp_path / "sft", pairs, tmp_path / "dpo", **DPO | {"method": "lora", "learning_rate": 2e-2, "epochs": 1}
    )
    assert dpo["curve"][0]["loss"] == pytest.approx(math.log(2), abs=1e-4) and dpo["final_margin"] > 0


def test_show_prints_rows_with_the_supervised_span(base, rows, pairs, tmp_path, capsys):
    """Labels that nobody looks at are wrong for months."""
    talks, prefer = write_rows(tmp_path / "a.parquet", rows, guessed_schema(rows)), tmp_path / "b.jsonl"
    prefer.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    show.main([str(talks), "--model", str(base), "--row", "1"])
    assert "user\nq1?<end_of_turn>\n<start_of_turn>model\n⟦abcabc<end_of_turn>\n⟧" in capsys.readouterr().out
    show.main([str(prefer), "--model", str(base)])
    out = capsys.readouterr().out
    assert out.count("--- row") == 3 and "model\n⟦a<end_of_turn>\n⟧" in out and "rejected: <bos>" in out
    with pytest.raises(KyaraError, match="has rows 0 to 7, no 8"):
        show.main([str(talks), "--model", str(base), "--row", "8"])


def test_launch_commands_name_processes_and_configuration():
    """`accelerate launch --cpu` starts one process whatever is asked; world size is checked in the worker too."""
    configs = launch.configurations(shared.Path(__file__).resolve().parents[1])
    assert list(configs) == ["ddp", "fsdp2", "zero2", "zero3"]
    gpu = launch.command(configs["fsdp2"], 8, "job.json", "cuda", "bfloat16")
    assert gpu[1:5] == ["-m", "accelerate.commands.launch", "--config_file", str(configs["fsdp2"])]
    assert gpu[5:9] == ["--num_processes", "8", "--mixed_precision", "bf16"]
    assert "torch.distributed.run" in launch.command(configs["ddp"], 2, "job.json", "cpu", "float32")
    with pytest.raises(KyaraError, match="1 training processes run, 2 were asked for"):
        fit.check_world(1, 2)


def test_launch_configurations_load():
    """A key that accelerate does not know ends the job at its start, on the expensive machine."""
    from accelerate.commands.config.config_args import load_config_from_file

    for name, path in launch.configurations(shared.Path(__file__).resolve().parents[1]).items():
        config = load_config_from_file(str(path))
        wanted = {"ddp": "MULTI_GPU", "fsdp2": "FSDP"}.get(name, "DEEPSPEED")
        assert config.distributed_type.value == wanted and config.num_machines == 1


def test_a_model_that_learnt_an_answer_gives_it_and_stops(base, rows, tmp_path):
    """A mask without the end of turn, or stop tokens lost in saving: the commonest complaint about tuned models."""
    call = SFT | {"learning_rate": 1e-2, "epochs": 30, "max_length": 32}
    row = {**rows[0], "source": "rag"}
    record = train_sft(base, [row], [row], tmp_path / "sft", **call)
    assert record["held_out_by_source"] == {"rag": [record["held_out_before"], record["held_out_after"]]}
    folder, asked = tmp_path / "sft", [row["messages"][:1]]
    assert answer_by_transformers(folder, asked, max_tokens=20) == [("abc", True)]
    assert answer_by_transformers(folder, asked, max_tokens=2) == [("ab", False)]
    by_transformers = generation_test("sft", folder, asked, tmp_path / "calls.sqlite", max_tokens=20)
    export_gguf(folder, folder / "model.gguf", "f32")
    by_llama_cpp = generation_test("sft", folder, asked, tmp_path / "calls.sqlite", max_tokens=20)
    passed = dict.fromkeys(("stopped", "right_script", "template_intact"), True)
    assert by_llama_cpp == by_transformers == [{"question": "q0?", "answer": "abc"} | passed]
    assert generation_rows("sft", by_llama_cpp)[0] == {"model": "sft", "check": "stopped", "passed": 1, "n": 1}


@pytest.mark.parametrize(
    ("question", "answer", "right_script", "intact"),
    [
        ("台灣在哪裡?", "在亞洲東部。", True, True),
        ("台灣在哪裡?", "台湾在亚洲东部，这里说国语。", False, True),
        ("台灣在哪裡?", "42", True, True),
        ("Where is it?", "在亞洲東部。", False, True),
        ("台灣在哪裡?", "好的,台灣在亞洲東部的海上。<end_of_turn>", True, False),
        ("台灣在哪裡?", " ", True, False),
    ],
)
def test_the_generation_test_judges_script_and_template(question, answer, right_script, intact):
    """A check that passes Simplified answers or template tokens is no check."""
    row = judged(question, answer, True, ["<start_of_turn>", "<end_of_turn>"])
    assert (row["right_script"], row["template_intact"]) == (right_script, intact)


def test_time_that_is_up_saves_and_the_rerun_goes_on(base, rows, pairs, tmp_path):
    """A batch system kills at its limit, in the middle of a step, and on some the whole output is lost."""
    whole = train_sft(base, rows, [], tmp_path / "whole", **SFT)
    with pytest.raises(KyaraError, match="SFT base: the time is up at step 1 of 8, which is saved; run the step again"):
        train_sft(base, rows, [], tmp_path / "sft", **SFT, stop_at=1.0)
    record = train_sft(base, rows, [], tmp_path / "sft", **SFT)
    assert record["weights"] == whole["weights"] and record["curve"] == whole["curve"]
    with pytest.raises(KyaraError, match="DPO: the time is up at step 1 of 4"):
        train_dpo(base, pairs, tmp_path / "dpo", **DPO, stop_at=1.0)
    assert train_dpo(base, pairs, tmp_path / "dpo", **DPO)["curve"][0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
