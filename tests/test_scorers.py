"""Scores of step 04: judges by probabilities, reward models by their published layout, agreement by rank."""

import gzip
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from scripted import Scripted, last, text

from kyara_utils.curation import open_tags, quality_scores, scorers, selection
from kyara_utils.curation import rows as rows_of_step
from kyara_utils.curation.filters import ranked_lines
from kyara_utils.curation.open_tags import tag_by_model
from kyara_utils.curation.quality_scores import by_digits, by_odds
from kyara_utils.curation.selection import with_tokens
from kyara_utils.curation.tag_merging import tag_measures
from kyara_utils.knowledge.vector_store import VectorStore
from kyara_utils.llm import expected
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.schemas import CONVERSATION
from kyara_utils.runs.stored_rows import stored

torch = pytest.importorskip("torch")
TRUTH = Path(__file__).resolve().parents[1].parent / "shared" / "ground_truth"


def row(ask: str, reply: str, *more: tuple[str, str]) -> dict:
    turns = [("user", ask), ("assistant", reply), *more]
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"id": ask, "messages": messages, "source": "rag", "lang": "zh-Hant", "tags": ["a"], "call_ids": []}


def marks(**probabilities: float):
    """A response whose first token has these probabilities."""
    return text("5", logprobs=({name.strip("_"): math.log(value) for name, value in probabilities.items()},))


# --- the judge ------------------------------------------------------------------------------------------


def test_expected_mark_is_the_mean_over_the_digits() -> None:
    """A judge that writes 4 nearly always still tells answers apart by the digits beside it."""
    digits = ("1", "2", "3", "4", "5")
    assert expected(marks(_4=0.6, _5=0.3, x=0.1), digits) == pytest.approx((4 * 0.6 + 5 * 0.3) / 0.9)
    assert expected(marks(_4=0.05, x=0.9), digits) is None, "a judge that wants to say something else has no mark"
    assert expected(text(" 3\n"), digits) == 3.0 and expected(text("I think"), digits) is None
    assert expected(text("7"), digits) is None


def test_a_judge_reads_the_last_answer_and_what_came_before() -> None:
    """A row of several rounds is rated by its last answer, in a form that suits the judge."""
    rows = [row("玉山多高？", "3,952公尺。"), row("甲？", "乙。", ("user", "丙\n？"), ("assistant", "丁。"))]
    client = Scripted(lambda request: marks(_4=0.5, _5=0.5), dialect="chat", style="full")
    noted, found = by_digits(client, rows)
    assert found == [4.5, 4.5] and len(noted[0]["call_ids"]) == 1 and rows[0]["call_ids"] == []
    assert "甲？\n乙。\n丙\n？" in last(client.asked[1]) and "丁。" in last(client.asked[1])
    assert len(client.asked[0].messages) == 2 and client.asked[0].max_tokens == 1
    base = Scripted(lambda request: marks(好=0.8, 差=0.1))
    assert by_odds(base, rows)[1] == [round(math.log(8), 4)] * 2
    assert "甲？ 乙。 丙 ？" in last(base.asked[1])


def test_a_row_without_a_score_stands_behind_all_others() -> None:
    """Nothing said about an answer is no praise: with 0 such a row would beat every one that was blamed."""
    client = Scripted(lambda request: text("") if "無" in last(request) else marks(好=0.1, 差=0.8))
    store = VectorStore(":memory:")
    rows = scorers.score_rows([row("無", "無。"), row("有", "有。")], ["odds"], client, store)
    assert rows[0]["score"] is None and rows[1]["score"] < 0
    assert rows_of_step.best_first(rows) == [1, 0]
    assert json.loads(rows[0]["scores"]) == {"odds": None}


def test_rows_on_disk_are_tagged_scored_and_chosen_like_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """From tags to the refined set a million rows must go the way of a dozen, in every table that is written."""
    plain = [row(f"第{at}題怎麼做？", "先想一想。" * (1 + at % 4)) for at in range(40)]
    plain = [{key: value for key, value in item.items() if key != "tags"} for item in plain]
    empty = dict.fromkeys(set(CONVERSATION.names) - plain[0].keys())  # which a table reads as null
    plain = [item | empty for item in plain]
    client = Scripted(lambda request: text("數學、想法") if request.max_tokens > 1 else marks(好=0.5, 差=0.1))
    found = []
    for rows in (plain, stored(plain, CONVERSATION)):
        for module in (open_tags, quality_scores):  # the second time the model is asked in six parts
            monkeypatch.setattr(module, "AT_ONCE", 7 if found else 100)
        rows, tags = tag_by_model(client, rows, lambda names: np.eye(len(names), dtype=np.float32))
        rows = with_tokens(scorers.score_rows(rows, ["odds"], client, VectorStore(":memory:")), len)
        rows = selection.choose(rows, "score", 0.3)
        best = selection.refined_set(rows)
        shown = (selection.selection_rows(rows), selection.compared_ways(rows), scorers.agreement(rows), tags)
        found.append((list(rows), list(best), *shown, ranked_lines(rows), tag_measures(rows, best)))
    assert found[0] == found[1] and len(found[0][1]) == 12 and len(found[0][0][0]["call_ids"]) == 2


def test_the_first_scorer_decides_and_all_are_kept() -> None:
    """Several scorers of one row: the choice must not depend on which others were asked."""
    client = Scripted(lambda request: marks(好=0.4, 差=0.2, _1=0.1, _5=0.1))
    (found,) = scorers.score_rows([row("問", "答。")], ["digits", "odds", "digits"], client, VectorStore(":memory:"))
    assert found["score"] == 3.0 and json.loads(found["scores"]) == {"digits": 3.0, "odds": round(math.log(2), 4)}
    assert len(found["call_ids"]) == 2
    with pytest.raises(KyaraError, match="scorers is empty; give odds, digits, or a reward model"):
        scorers.score_rows([], [], client, VectorStore(":memory:"))
    assert scorers.score_rows([], ["odds"], client, VectorStore(":memory:")) == []


# --- agreement ------------------------------------------------------------------------------------------


def test_agreement_is_spearmans() -> None:
    """Ranks, not values; ties share a rank; what one scorer left out is left out of its pairs alone."""
    from scipy.stats import spearmanr

    rng = random.Random(0)
    values = [
        (rng.choice([1, 2, 3, 4]), rng.gauss(0, 1), None if rng.random() < 0.2 else rng.random()) for _ in range(80)
    ]
    rows = []
    for number, (a, b, c) in enumerate(values):
        found = row(f"{number}", "字" * rng.randrange(1, 9)) | {"scores": json.dumps({"a": a, "b": b, "c": c})}
        rows += with_tokens([found | {"tags": ["t"] * (number % 5)}], len)
    table = {(pair["left"], pair["right"]): pair for pair in scorers.agreement(rows)}
    both = [(a, c) for a, _, c in values if c is not None]
    assert len(table) == 10 and table["a", "c"]["rows"] == len(both) < 80
    assert table["a", "c"]["rho"] == pytest.approx(spearmanr(*zip(*both, strict=True))[0], abs=1e-4)
    lengths = [item["answer_tokens"] for item in rows]
    assert table["b", "answer tokens"]["rho"] == pytest.approx(
        spearmanr([b for _, b, _ in values], lengths)[0], abs=1e-4
    )
    alike = scorers.agreement([item | {"scores": '{"a": 1}'} for item in rows])
    assert {pair["rho"] for pair in alike if pair["left"] == "a"} == {None}
    assert [pair["rows"] for pair in scorers.agreement([])] == [0]


# --- reward models --------------------------------------------------------------------------------------

TURNS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>")
TEMPLATE = (
    "{{ '<|begin_of_text|>' }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def tokenizer_at(folder: Path):
    """A tokenizer of single bytes with Llama 3's turns and template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=TURNS[-1])
    whole.add_special_tokens({"additional_special_tokens": list(TURNS[:-1])})
    whole.chat_template = TEMPLATE
    whole.save_pretrained(folder)
    return whole


def llama(vocabulary: int, **more: object):
    from transformers import LlamaConfig

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaConfig(vocab_size=vocabulary, num_key_value_heads=2, max_position_embeddings=8192, **sizes, **more)


@pytest.fixture(scope="module")
def armorm(tmp_path_factory) -> Path:
    """A tiny model in ArmoRM's published layout: names, shapes, shards with an index, remote code that must not run."""
    from safetensors.torch import save_file
    from transformers import LlamaModel

    folder = tmp_path_factory.mktemp("armorm")
    tokenizer, width, objectives, hidden = tokenizer_at(folder), 32, 19, 24
    torch.manual_seed(0)
    config = llama(len(tokenizer), num_objectives=objectives, gating_temperature=10, gating_hidden_dim=hidden)
    backbone = LlamaModel(config)
    weights = {f"model.{name}": tensor.contiguous() for name, tensor in backbone.state_dict().items()}
    head = {"regression_layer.weight": torch.randn(objectives, width)}
    head |= {"reward_transform_matrix": torch.eye(objectives) - 0.1 * torch.rand(objectives, objectives)}
    head |= {"gating.logit_scale": torch.tensor([1.3])}
    for at, (wide, out) in enumerate([(width, hidden), (hidden, hidden), (hidden, hidden), (hidden, objectives)]):
        head |= {f"gating.layers.{at}.weight": torch.randn(out, wide), f"gating.layers.{at}.bias": torch.randn(out)}
    shards = {"model-00001-of-00002.safetensors": weights, "model-00002-of-00002.safetensors": head}
    for name, tensors in shards.items():
        save_file(tensors, folder / name, metadata={"format": "pt"})
    index = {name: shard for shard, tensors in shards.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    body = config.to_dict() | {"architectures": ["LlamaForRewardModelWithGating"]}
    body |= {"auto_map": {"AutoModelForSequenceClassification": "modeling_custom.LlamaForRewardModelWithGating"}}
    (folder / "config.json").write_text(json.dumps(body))
    (folder / "modeling_custom.py").write_text("raise SystemExit('remote code ran')\n")
    return folder


def by_hand(folder: Path, messages: list[dict]) -> tuple[float, list[float]]:
    """ArmoRM's forward pass as its model file writes it, one conversation at a time."""
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, LlamaModel

    tensors = {k: v for file in sorted(folder.glob("*.safetensors")) for k, v in load_file(file).items()}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaModel(llama(len(tokenizer))).eval()
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    pattern = tokenizer("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")["input_ids"]
    place = max(at for at in range(len(ids)) if ids[at : at + len(pattern)] == pattern)
    with torch.no_grad():
        hidden = model(torch.tensor([ids])).last_hidden_state[0]
        rewards = hidden[-1] @ tensors["regression_layer.weight"].T
        x = hidden[place]
        for at in range(4):
            x = x @ tensors[f"gating.layers.{at}.weight"].T + tensors[f"gating.layers.{at}.bias"]
            x = torch.relu(x) if at < 3 else x
        gate = torch.softmax(x / 10, dim=0) * tensors["gating.logit_scale"][0]
        coefficients = gate @ tensors["reward_transform_matrix"].T
    return float(rewards @ coefficients), rewards.tolist()


CONVERSATIONS = [
    [("user", "How?"), ("assistant", "Like this.")],
    [("user", "Why?"), ("assistant", "Like that.")],
    [("system", "Be brief."), ("user", "玉山多高？"), ("assistant", "3,952公尺。")],
    [("user", "a"), ("assistant", "b"), ("user", "c" * 40), ("assistant", "d")],
]


def as_messages(turns: list[tuple[str, str]]) -> list[dict]:
    return [{"role": role, "content": content} for role, content in turns]


def test_armorm_is_its_published_forward_pass(armorm: Path) -> None:
    """Scores and 19 rewards of the layout's own arithmetic, without its code; rows that go together do not matter."""
    from kyara_utils.curation.armorm import OBJECTIVES
    from kyara_utils.curation.reward_models import RewardModel

    model = RewardModel(armorm)
    texts = [json.dumps(as_messages(turns)) for turns in CONVERSATIONS]
    found = model.passages(texts)
    assert found.shape == (4, 2 + len(OBJECTIVES)) and found[:, 0].all()
    for at, turns in enumerate(CONVERSATIONS):
        score, rewards = by_hand(armorm, as_messages(turns))
        assert found[at, 1] == pytest.approx(score, abs=1e-4) and found[at, 2:] == pytest.approx(rewards, abs=1e-4)
    assert model.passages(texts[::-1])[::-1] == pytest.approx(found, abs=1e-5)
    assert len({len(text) for text in texts[:2]}) == 1, "two of equal length went through together"


def test_rewards_are_stored_and_rows_that_do_not_fit_have_none(armorm: Path, tmp_path: Path, monkeypatch) -> None:
    """A killed run must not rate again what it rated; a row that is too long has no score."""
    from kyara_utils.curation import reward_models

    rows = [row("問", "答。"), row("問" * 2000, "答。"), row("又問", "又答。")]
    with VectorStore(tmp_path / "v.sqlite") as store:
        first = reward_models.rewards(str(armorm), rows, store)
        assert first[1] is None and first[0] is not None and first[0] != first[2]
        monkeypatch.setattr(reward_models.RewardModel, "passages", lambda *_: pytest.fail("rated twice"))
        assert reward_models.rewards(str(armorm), rows[::-1], store) == first[::-1]
    scored = scorers.score_rows(rows, [str(armorm)], Scripted(lambda request: None), VectorStore(tmp_path / "v.sqlite"))
    assert [item["score"] for item in scored] == first


@pytest.mark.parametrize("pad", [None, 3])
def test_any_sequence_classifier_with_one_output(pad: int | None, tmp_path: Path) -> None:
    """A model without a padding token refuses batches; here each score is that of the conversation alone."""
    from transformers import LlamaForSequenceClassification

    from kyara_utils.curation.reward_models import RewardModel

    tokenizer = tokenizer_at(tmp_path)
    torch.manual_seed(1)
    made = LlamaForSequenceClassification(llama(len(tokenizer), num_labels=1, pad_token_id=pad)).eval()
    made.save_pretrained(tmp_path)
    texts = [json.dumps(as_messages(turns)) for turns in CONVERSATIONS]
    found = RewardModel(tmp_path).passages(texts)
    for at, turns in enumerate(CONVERSATIONS):
        ids = tokenizer.apply_chat_template(as_messages(turns), return_dict=True)["input_ids"]
        with torch.no_grad():
            alone = made(torch.tensor([ids])).logits[0, 0]
        assert found[at].tolist() == [1.0, pytest.approx(float(alone), abs=1e-5)]


def test_a_classifier_of_pairs(tmp_path: Path) -> None:
    """Encoders such as DeBERTa have no chat template: they read what was said before and the answer as a pair."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    from kyara_utils.curation.reward_models import RewardModel

    plain = Tokenizer(models.WordLevel({"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "好": 3, "壞": 4}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    plain.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, sep_token="[SEP]", cls_token="[CLS]", unk_token="[UNK]")
    tokenizer.save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    made = BertForSequenceClassification(BertConfig(vocab_size=5, num_labels=1, **sizes)).eval()
    made.save_pretrained(tmp_path)
    found = RewardModel(tmp_path).passages([json.dumps(as_messages([("user", "好壞"), ("assistant", "好")]))])
    given = tokenizer("好壞", "好", return_tensors="pt")
    with torch.no_grad():
        assert found[0].tolist() == [1.0, pytest.approx(float(made(**given).logits[0, 0]), abs=1e-5)]


def test_what_is_no_reward_model_is_named(armorm: Path, tmp_path: Path) -> None:
    """A classifier of three classes has no reward, and a head that lacks a tensor no gate."""
    import shutil

    from transformers import LlamaForSequenceClassification

    from kyara_utils.curation.reward_models import RewardModel

    tokenizer = tokenizer_at(tmp_path / "three")
    LlamaForSequenceClassification(llama(len(tokenizer), num_labels=3)).save_pretrained(tmp_path / "three")
    with pytest.raises(KyaraError, match="has 3 outputs; a reward model has one"):
        RewardModel(tmp_path / "three")
    shutil.copytree(armorm, tmp_path / "cut")
    (tmp_path / "cut/model-00002-of-00002.safetensors").unlink()
    with pytest.raises(KyaraError, match="lacks 'regression_layer.weight' of ArmoRM's head"):
        RewardModel(tmp_path / "cut")
    with pytest.raises(KyaraError, match="is no folder here"):
        scorers.score_rows([row("a", "b")], ["judge"], Scripted(lambda request: None), VectorStore(":memory:"))


@pytest.mark.skipif(not (TRUTH / "armorm").is_dir(), reason="no ../shared/ground_truth/armorm")
def test_published_scores_of_armorm_are_read_from_the_turns_of_this_template() -> None:
    """The model's own weights are not at hand: its published prompts show the template, its scores their agreement."""
    from jinja2 import Template

    with gzip.open(TRUTH / "armorm/five_responses.jsonl.gz", "rt", encoding="utf-8") as file:
        published = [json.loads(line) for line in file]
    rows = []
    for item in published:
        asked = [{"role": "user", "content": item["instruction"]}]
        shown = Template(TEMPLATE).render(messages=asked, add_generation_prompt=True)
        assert shown == item["gen_response_configs"]["prompt"]
        for reply, reward in zip(item["responses"], item["rewards_armorm"], strict=True):
            rows.append(row(item["instruction"], reply) | {"scores": json.dumps({"armorm": reward["score"]})})
    pairs = scorers.agreement(with_tokens(rows, len))
    assert [pair["rho"] for pair in pairs if pair["right"] == "answer tokens"] == [-0.0115] and len(rows) == 25


def test_ranks_by_hand() -> None:
    assert scorers._ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0.0, 2.5, 1.0]
