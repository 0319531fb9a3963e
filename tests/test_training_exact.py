"""What must come out to the digit: packing, first losses, accumulation, processes, resume after a kill."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import test_training as shared

from kyara_utils.models import loading
from kyara_utils.runs.errors import KyaraError
from kyara_utils.training import fit, launch, sft, stage, trainer_run, trl_internals
from kyara_utils.training.data import training_row
from kyara_utils.training.losses import sppo_loss
from kyara_utils.training.pair_rows import pair_ids, prepare_pairs
from kyara_utils.training.settings import SftSettings
from kyara_utils.training.trainer_config import trainer_config

cache, tiny_gguf, base, gemma2, tokenizer, rows, pairs = (
    getattr(shared, name) for name in ("cache", "tiny_gguf", "base", "gemma2", "tokenizer", "rows", "pairs")
)
train_sft, train_dpo = shared.train_sft, shared.train_dpo
ROOT = Path(__file__).resolve().parents[1]
AT_ONCE = {"warmup_steps": 0.0}
UNPACKED = {**AT_ONCE, "packing": False}
ONE_STEP = dict(learning_rate=1e-3, epochs=1, gradient_accumulation=1, batch_size=4, seed=1, trainer=AT_ONCE)


@pytest.fixture(scope="module", params=["base", "gemma2"])
def packed(request, tokenizer, rows, cache):
    """The model, and one batch as the trainer packs it."""
    model = loading.load_model(request.getfixturevalue(request.param))
    settings = SftSettings(**ONE_STEP | {"max_length": 512, "batch_size": 1})
    with stage.quiet():
        arguments = trainer_config(settings, cache / f"packed-{request.param}", "float32")
        trainer = fit.sft_trainer(model, tokenizer, [training_row(tokenizer, row) for row in rows], arguments)
        return model.eval(), next(iter(trainer.get_train_dataloader()))


def separate_logits(model, batch):
    import torch

    starts = [at for at, position in enumerate(batch["position_ids"][0].tolist()) if position == 0]
    ends = [*starts[1:], batch["input_ids"].shape[1]]
    assert len(starts) == 8
    with torch.no_grad():
        parts = [model(batch["input_ids"][:, a:b], use_cache=False).logits for a, b in zip(starts, ends, strict=True)]
    return torch.cat(parts, dim=1)


def packed_logits(model, batch, **more):
    import torch

    with torch.no_grad():
        places = {"input_ids": batch["input_ids"], "position_ids": batch["position_ids"], "use_cache": False}
        return model(**places, **more).logits


def test_packed_logits_equal_separate_logits(packed):
    """Documents that read each other train a model on contexts it never meets."""
    model, batch = packed
    assert "attention_mask" not in batch
    assert (packed_logits(model, batch) - separate_logits(model, batch)).abs().max() < 1e-5


@pytest.mark.parametrize("leak", ["attention_mask", "use_cache"])
def test_the_check_above_sees_a_leak(packed, leak):
    """An all-ones mask or a cache joins the documents without an error; a check blind to it proves nothing."""
    import torch

    model, batch = packed
    mistake = {"attention_mask": torch.ones_like(batch["input_ids"])} if leak == "attention_mask" else {leak: True}
    places = {"input_ids": batch["input_ids"], "position_ids": batch["position_ids"], "use_cache": False}
    with torch.no_grad():
        leaked = model(**places | mistake).logits
    assert (leaked - separate_logits(model, batch)).abs().max() > 1e-3


def test_accumulation_changes_nothing(base, rows, tmp_path):
    """A mean of means weighs short rows more, so the batch that fits into memory would decide the result."""
    shapes = {"4x1": {"batch_size": 4}, "1x4": {"batch_size": 1, "gradient_accumulation": 4}}
    call = dict(max_length=64, trainer=UNPACKED)
    curves = [train_sft(base, rows, [], tmp_path / n, **ONE_STEP | s | call)["curve"] for n, s in shapes.items()]
    assert len(curves[0]) == len(curves[1]) == 2
    for one, other in zip(*curves, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)


@pytest.mark.parametrize(
    ("loss", "first"),
    [("sigmoid", math.log(2)), ("ipo", 25.0), ("sppo_hard", 50.0), ("sppo_soft", 0.5 * (4.0**2 + 3.0**2))],
)
def test_first_loss_of_each_kind(base, pairs, tmp_path, loss, first):
    """Policy = reference fixes the first loss; another value means another reference, sign or scale."""
    soft = [{**pair, "chosen_win": 0.9, "rejected_win": 0.2} for pair in pairs]
    record = train_dpo(base, soft, tmp_path / "dpo", loss=loss, beta=0.1, max_length=64, **ONE_STEP)
    assert record["curve"][0]["loss"] == pytest.approx(first, rel=1e-4)
    assert None not in record["curve"][0].values() and record["final_margin"] > 0


def test_the_reference_is_computed_in_the_precision_of_training(base, pairs, tmp_path, monkeypatch):
    """TRL computes it in fp32 and trains in bf16: rounding then counts as preference, whatever the loss."""
    monkeypatch.setattr(stage, "choose_precision", lambda: ("cpu", "bfloat16", "chosen by the test"))
    call = ONE_STEP | dict(loss="ipo", beta=0.1, max_length=64)
    first = [train_dpo(base, pairs, tmp_path / "same", **call)["curve"][0]["loss"]]
    monkeypatch.setattr(trl_internals, "_in_mixed_precision", lambda accelerator, model: model)
    first.append(train_dpo(base, pairs, tmp_path / "fp32", **call)["curve"][0]["loss"])
    assert first[0] == pytest.approx(25.0, abs=0.01) and abs(first[1] - 25.0) > 0.02


def test_sft_term_is_added(base, tokenizer, pairs, tmp_path):
    """A weight that TRL ignores would leave the plain loss, and the chosen answers' likelihood would fall."""
    record = train_dpo(base, pairs, tmp_path / "dpo", sft_weight=0.5, beta=0.1, max_length=64, **ONE_STEP)
    talks = [{"messages": [*pair["prompt"], *pair["chosen"]]} for pair in pairs]
    nll = sft.held_out_loss(loading.load_model(base), tokenizer, talks)
    assert record["curve"][0]["loss"] == pytest.approx(math.log(2) + 0.5 * nll, abs=1e-4)


def test_soft_sppo_equals_the_paper_and_half_of_the_hard_one():
    """The factor ½ and the two signs are what a rewrite gets wrong."""
    import torch

    winner, loser, p_winner, p_loser = torch.rand(4, 64, generator=torch.manual_seed(0))
    winner, loser = winner * 8 - 4, loser * 8 - 4
    for beta in (0.001, 0.1, 1.0):
        ours = sppo_loss(winner, loser, p_winner, p_loser, beta)
        for n in range(64):
            errors = [
                (x[n].item() - (p[n].item() - 0.5) / beta) ** 2 for x, p in ((winner, p_winner), (loser, p_loser))
            ]
            assert ours[n].item() == pytest.approx(sum(errors) / 2, rel=1e-4)
        hard = (winner - 0.5 / beta) ** 2 + (loser + 0.5 / beta) ** 2
        certain = sppo_loss(winner, loser, torch.ones(64), torch.zeros(64), beta)
        torch.testing.assert_close(certain, hard / 2)


def test_a_step_has_no_end_of_turn_and_an_answer_has(tokenizer, pairs):
    """A step that ends the turn teaches the model to stop after one step; a cut rejected answer with an end, not to."""
    begun = [*pairs[0]["prompt"], {"role": "assistant", "content": "1. x"}]
    step = {"id": "s", "prompt": begun}
    for side, text in (("chosen", "\n2. y"), ("rejected", "\n2. z")):
        step[side] = [{"role": "assistant", "content": text}]
    kept, rejects, counts = prepare_pairs([step, *pairs], tokenizer, 64)
    assert counts["step_rows"] == 1 and len(kept) == 5 and not rejects
    ids = pair_ids(tokenizer, step)
    assert tokenizer.decode(ids["chosen_ids"]).endswith("y") and tokenizer.decode(ids["rejected_ids"]).endswith("z")
    whole = tokenizer.decode(ids["prompt_ids"] + ids["chosen_ids"])
    assert whole == "<bos><start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n1. x\n2. y"
    assert tokenizer.decode(pair_ids(tokenizer, pairs[0])["chosen_ids"]) == "a<end_of_turn>\n"
    cut = pair_ids(tokenizer, pairs[1] | {"rejected_cut": True})
    assert tokenizer.decode(cut["rejected_ids"]) == "zz" and tokenizer.decode(cut["chosen_ids"]).endswith("_turn>\n")


def test_two_processes_give_the_losses_of_one(base, rows, tmp_path):
    """A launcher that starts one process halves the batch without a word; gradients must be averaged, not added."""
    call = dict(max_length=64, trainer=UNPACKED)
    one = train_sft(base, rows, [], tmp_path / "one", **ONE_STEP | call)
    two = train_sft(base, rows, [], tmp_path / "two", **ONE_STEP | {"batch_size": 2} | call, backend="ddp", processes=2)
    assert (one["processes"], two["processes"]) == (1, 2)
    for ours, theirs in zip(one["curve"], two["curve"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)


def test_two_processes_stop_in_time_together(base, rows, tmp_path):
    """Each by its own clock would leave one waiting for the other's gradients for ever."""
    call = ONE_STEP | dict(batch_size=2, max_length=64, trainer=UNPACKED, backend="ddp", processes=2)
    with pytest.raises(KyaraError, match="SFT base: the time is up at step 1 of 2, which is saved"):
        train_sft(base, rows, [], tmp_path / "sft", **call, stop_at=1.0)
    resumed, whole = (train_sft(base, rows, [], tmp_path / name, **call) for name in ("sft", "whole"))
    assert resumed["weights"] == whole["weights"] and resumed["curve"] == whole["curve"]


KILLED = """
import json, os, signal, sys
from transformers import TrainerCallback
from kyara_utils.training import trainer_run
from kyara_utils.training.settings import SftSettings
from kyara_utils.training.sft import train_sft

class Kill(TrainerCallback):
    def on_save(self, args, state, control, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

watcher = trainer_run._watcher
trainer_run._watcher = lambda *given: type("Both", (Kill, type(watcher(*given))), {})()
call = json.loads(sys.argv[1])
train_sft(call.pop("base"), call.pop("rows"), [], call.pop("out"), SftSettings(**call), progress=False)
"""


def test_resume_after_kill_9_gives_the_same_weights(base, rows, tmp_path):
    """Optimizer, schedule and data order must all come back, or the resumed run is another run."""
    call = ONE_STEP | dict(batch_size=1, max_length=64, trainer=UNPACKED | {"save_steps": 3})
    whole = train_sft(base, rows, [], tmp_path / "whole", **call)
    said = json.dumps({**call, "base": str(base), "rows": rows, "out": str(tmp_path / "killed")})
    done = subprocess.run([sys.executable, "-c", KILLED, said], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert list((tmp_path / "killed").glob("checkpoints-*/checkpoint-3"))
    resumed = train_sft(base, rows, [], tmp_path / "killed", **call)
    assert resumed["weights"] == whole["weights"] and resumed["curve"] == whole["curve"]


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_interrupted_dpo_resumes_to_the_same_weights(gemma2, pairs, tmp_path, monkeypatch, method):
    """The reference must be the model before training, not the half-trained one that is resumed."""
    from transformers import TrainerCallback

    if method == "qlora":
        pytest.importorskip("bitsandbytes")

    class Stop(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            raise KeyboardInterrupt

    call = ONE_STEP | dict(batch_size=1, beta=0.1, max_length=64, trainer=AT_ONCE | {"save_steps": 2}, method=method)
    whole = train_dpo(gemma2, pairs, tmp_path / "whole", **call)
    watcher = trainer_run._watcher
    with monkeypatch.context() as patch:
        patch.setattr(trainer_run, "_watcher", lambda *given: type("Both", (Stop, type(watcher(*given))), {})())
        with pytest.raises(KeyboardInterrupt):
            train_dpo(gemma2, pairs, tmp_path / "dpo", **call)
    resumed = train_dpo(gemma2, pairs, tmp_path / "dpo", **call)
    assert resumed["weights"] == whole["weights"] and resumed["curve"] == whole["curve"]
    assert not list((tmp_path / "dpo").glob("checkpoints-*"))


def accelerate_settings(config: Path) -> dict[str, str]:
    """The environment that `accelerate launch` gives a worker for a configuration file."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    line = ["--config_file", str(config), "--num_processes", "2", "--mixed_precision", "no", "worker.py"]
    found = prepare_multi_gpu_env(_validate_launch_command(launch_command_parser().parse_args(line))[0])
    return {name: value for name, value in found.items() if name.startswith(("FSDP_", "ACCELERATE_USE_FSDP"))}


@pytest.fixture
def sharded(monkeypatch):
    """Launches on this CPU that shard as params/accelerate/fsdp2.yml says."""
    line = launch.command

    def command(config, *arguments):
        for name, value in accelerate_settings(config).items():
            monkeypatch.setenv(name, value)
        at = (built := line(config, *arguments)).index("kyara_utils.training.worker")
        return [*built[: at - 1], str(ROOT / "tests" / "sharded_worker.py"), *built[at + 1 :]]

    monkeypatch.setattr(launch, "command", command)


def same_weights(one: Path, other: Path) -> bool:
    from safetensors.torch import load_file

    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    return ours.keys() == theirs.keys() and all((ours[n] - theirs[n]).abs().max() < 1e-5 for n in ours)


@pytest.mark.parametrize(("backend", "method"), [("ddp", "full"), ("fsdp2", "full"), ("fsdp2", "lora")])
def test_dpo_in_two_processes_is_that_of_one(gemma2, pairs, tmp_path, sharded, backend, method):
    """A reference read by one process alone, or of zeros in the second, trains away from another model."""
    call = ONE_STEP | dict(beta=0.1, max_length=64, method=method)
    one = train_dpo(gemma2, pairs, tmp_path / "one", **call | {"batch_size": 2})
    two = train_dpo(gemma2, pairs, tmp_path / "two", **call | {"batch_size": 1}, backend=backend, processes=2)
    assert two["curve"][0]["loss"] == pytest.approx(math.log(2), abs=1e-4) and two["processes"] == 2
    assert two["final_margin"] == pytest.approx(one["final_margin"], abs=1e-4)
    assert same_weights(tmp_path / "one", tmp_path / "two"), "one tied model, whole"


def test_qlora_trains_adapters_on_a_4_bit_base(gemma2, rows, pairs, tmp_path):
    """Adapters in bf16 lose small steps; the merge must go into the unquantised weights, head and embedding tied."""
    pytest.importorskip("bitsandbytes")
    from safetensors.torch import load_file

    call = ONE_STEP | dict(batch_size=1, max_length=64, method="qlora", learning_rate=1e-2)
    record = train_sft(gemma2, rows, rows, tmp_path / "sft", **call)
    plain = train_sft(gemma2, rows, [], tmp_path / "lora", **call | {"method": "lora"})
    assert record["held_out_after"] < record["held_out_before"]
    first, other = record["curve"][0]["loss"], plain["curve"][0]["loss"]
    assert first != other and first == pytest.approx(other, rel=0.03), "4 bits, and no more than their rounding"
    adapter = load_file(tmp_path / "sft" / "adapter" / "adapter_model.safetensors")
    assert {str(weight.dtype) for weight in adapter.values()} == {"torch.float32"}
    before, after = (load_file(folder / "model.safetensors") for folder in (gemma2, tmp_path / "sft"))
    changed = {name for name in before if not before[name].equal(after[name])}
    assert before.keys() == after.keys() and len(changed) == 28 and not any("norm" in name for name in changed)
    dpo = train_dpo(gemma2, pairs, tmp_path / "dpo", **call, beta=0.1)
    assert dpo["curve"][0]["loss"] == pytest.approx(math.log(2), abs=1e-4) and dpo["final_margin"] > 0.3
