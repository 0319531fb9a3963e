"""Reward models as judges: tiny ones with random weights against their published formulas, and real scores."""

import gzip
import json
import math
from itertools import combinations
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_self_play import Model3
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    DebertaV2Config,
    DebertaV2Model,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from kyara_utils.models.pair_ranker import PairRanker, is_pair_ranker
from kyara_utils.preference import Pair, Panel, open_panel, sppo_preferences
from kyara_utils.preference.best_worst import ranked_preferences
from kyara_utils.preference.reward_judges import RankerJudge
from kyara_utils.runs.errors import KyaraError

TRUTH = Path(__file__).parents[1].parent / "shared" / "ground_truth"
WORDS = ["<pad>", "<s>", "<e>", "user", "assistant", *"abcdefgh", "<|source|>", "<|candidate1|>", "<|candidate2|>"]
TEMPLATE = "{% for m in messages %}<s> {{ m.role }} {{ m.content }} <e> {% endfor %}"
SIZES = dict(vocab_size=len(WORDS), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
LLAMA = SIZES | {"num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0}


def write_tokenizer(folder, special=False):
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        words.post_processor = processors.TemplateProcessing("<s> $A <e>", special_tokens=[("<s>", 1), ("<e>", 2)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>")
    tokenizer.add_special_tokens({"additional_special_tokens": WORDS[-3:]})
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def ids_of(text):
    return torch.tensor([[WORDS.index(word) for word in text.split()]])


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(1)
    LlamaForSequenceClassification(LlamaConfig(**LLAMA, num_labels=1)).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def test_a_classifier_gives_the_difference_of_its_logits(classifier, tmp_path):
    """One label, the last token of the whole conversation; equal answers tie, and each is rated once."""
    plain = LlamaForSequenceClassification.from_pretrained(classifier).eval()
    with torch.no_grad():
        one, two = (float(plain(ids_of(f"<s> user a <e> <s> assistant {x} <e>")).logits) for x in ("b c", "d"))
    pairs = [Pair("p", "a", "b c", "d"), Pair("q", "a", "d", "d"), Pair("r", "a", "d", "b " * 5000)]
    with open_panel([str(classifier)], tmp_path / "calls.sqlite") as panel:
        first, equal, long = panel.verdicts(pairs)
    assert first.margin_forward == first.margin_reverse == pytest.approx(one - two, abs=1e-4)
    assert first.outcome == ("first" if one > two else "second") and equal.outcome == "tie"
    assert long.outcome == "unscored" and panel.usage == {} and panel.members[0].mode == "reward"
    assert (tmp_path / "rewards.sqlite").is_file()


def test_pairrm_reads_each_answer_at_its_mark(tmp_path):
    """score = head(source ⊕ candidate); the margin is the mean difference, and the order matters to it."""
    torch.manual_seed(3)
    config = DebertaV2Config(**SIZES, max_position_embeddings=64, type_vocab_size=0)
    config.architectures = ["DebertaV2PairRM"]
    for number, name in enumerate(("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id")):
        setattr(config, name, 13 + number)
    config.save_pretrained(tmp_path)
    body, head = DebertaV2Model(config).eval(), [torch.nn.Linear(32, 16), torch.nn.Linear(16, 3)]
    weights = {f"pretrained_model.{name}": value for name, value in body.state_dict().items()}
    weights |= {f"head_layer.{place}.{part}": getattr(one, part).data for place, one in zip((1, 4), head, strict=True)
                for part in ("weight", "bias")}  # fmt: skip
    save_file({name: value.contiguous() for name, value in weights.items()}, tmp_path / "model.safetensors")
    write_tokenizer(tmp_path, special=True)
    ids = ids_of("<s> <|source|> a <e> <s> <|candidate1|> b c <e> <s> <|candidate2|> d <e>")
    with torch.no_grad():
        hidden = body(ids).last_hidden_state[0]
        scores = [head[1](torch.tanh(head[0](torch.cat([hidden[1], hidden[at]])))) for at in (5, 10)]
    pairs = [(" a", " b c", " d"), (" a", " d", " b c")]
    assert is_pair_ranker(tmp_path)
    margins = PairRanker(tmp_path).margins(pairs)
    assert margins[0] == pytest.approx(float((scores[0] - scores[1]).mean()), abs=1e-5)
    assert margins[1] != pytest.approx(-margins[0], abs=1e-6)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(KyaraError, match="has no safetensors"):
        PairRanker(tmp_path)


class Fixed:
    """A ranker whose rewards are known."""

    def __init__(self, rewards):
        self.rewards = rewards

    def margins(self, pairs):
        return [self.rewards[one] - self.rewards[two] for _, one, two in pairs]


def test_nan_is_a_verdict_that_nobody_gave():
    judge = RankerJudge("r", Fixed({"a": 1.0, "b": 0.25, "c": math.nan, "d": 0.25}))
    pairs = [Pair("p", "q", *sides) for sides in ("ab", "ba", "ac", "bd")]
    verdicts = judge.verdicts(pairs)
    assert [verdict.outcome for verdict in verdicts] == ["first", "second", "unscored", "tie"]
    assert verdicts[0].margin_forward == verdicts[0].margin_reverse == 0.75


def test_a_folder_without_a_model_says_so(tmp_path):
    with pytest.raises(KyaraError, match="is no folder here"), open_panel([f"{tmp_path}/none"], tmp_path / "c.sqlite"):
        pass


def test_sppo_takes_a_reward_model():
    """uclaml/SPPO compute_prob.py: P[i][j] = 1 / (1 + exp(s_j − s_i)), chosen and rejected with their mean rows."""
    scores = {"xx": 0.3, "x": -1.0, "xxxx": 2.0}
    panel = Panel([RankerJudge("r", Fixed(scores))], models={})
    (row,), _ = sppo_preferences(Model3(*scores), panel, {"q": []}, samples=3)
    chance = lambda i, j: 1 / (1 + math.exp(scores[j] - scores[i]))  # noqa: E731
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("xxxx", "x")
    assert row["chosen_win"] == pytest.approx(sum(chance("xxxx", j) for j in scores) / 3, abs=1e-6)
    assert row["rejected_win"] == pytest.approx(sum(chance("x", j) for j in scores) / 3, abs=1e-6)


@pytest.mark.skipif(not TRUTH.is_dir(), reason="no ../shared/ground_truth")
def test_real_armorm_scores_give_the_published_pair():
    """Magpie's process_po takes the highest and the lowest of five real ArmoRM scores; so does our ranking."""
    lines = gzip.open(TRUTH / "armorm" / "five_responses.jsonl.gz", "rt").read().splitlines()
    for row in map(json.loads, lines):
        scores = dict(zip(row["responses"], (one["score"] for one in row["rewards_armorm"]), strict=True))
        made = [
            {"text": text, "model": str(n), "call_id": "", "finish_reason": "stop"} for n, text in enumerate(scores)
        ]
        pairs = [(Pair("p", "q", one["text"], two["text"]), one, two) for one, two in combinations(made, 2)]
        verdicts = RankerJudge("armorm", Fixed(scores)).verdicts([pair for pair, _, _ in pairs])
        (kept,), _ = ranked_preferences(pairs, verdicts, "armorm", {})
        assert kept["chosen"][0]["content"] == max(scores, key=scores.get)
        assert kept["rejected"][0]["content"] == min(scores, key=scores.get)
