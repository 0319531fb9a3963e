"""The refined set of step 04: the same rows whatever their order, within its budget, every left row with its rule."""

import random
from itertools import islice

import pytest

from kyara_utils.curation import selection
from kyara_utils.curation.spreading import instag_order, spread
from kyara_utils.runs.errors import KyaraError


def row(key: str, tags: list[str], score: float = 0.0, tokens: int = 10, **more: object) -> dict:
    messages = [{"role": "user", "content": key}, {"role": "assistant", "content": "回答。"}]
    base = {"id": key, "messages": messages, "source": "rag", "lang": "zh-Hant", "tags": tags, "score": score}
    return {**base, "tokens": tokens, "answer_tokens": tokens // 2, **more}


def drawn(count: int, seed: int = 0) -> list[dict]:
    """Rows of a skewed set: one task and one language hold most rows, sizes differ a hundredfold."""
    rng = random.Random(seed)
    return [
        row(
            f"{i:04}",
            [rng.choice("aaaaaaabbc"), *rng.sample("defghijklmnop", rng.randrange(4))],
            rng.choice([0.0, 0.5, 1.0]),
            rng.choice([5, 20, 80, 500]),
            lang=rng.choice(["zh-Hant"] * 5 + ["en"]),
        )
        for i in range(count)
    ]


def refined(rows: list[dict], *args: object, **options: object) -> list[str]:
    return [item["id"] for item in selection.choose(rows, *args, **options) if item["selection"] == "refined"]


def by_instag(rows: list[dict], n: int) -> list[str]:
    order = sorted(range(len(rows)), key=lambda at: (-rows[at]["score"], rows[at]["id"]))
    return [rows[at]["id"] for at in islice(instag_order(order, [set(item["tags"]) for item in rows]), n)]


def test_instag_order_by_hand() -> None:
    """Algorithm 1: most tags first, a row needs a new tag, the tag set starts empty in each pass."""
    rows = [row(k, list(v)) for k, v in {"a": "xyz", "b": "xy", "c": "yz", "d": "w", "e": "x", "f": ""}.items()]
    assert by_instag(rows, 4) == ["a", "d", "b", "c"]
    assert by_instag(rows[::-1], 99) == ["a", "d", "b", "c", "e"]


def sampled_by_definition(rows: list[dict], n: int) -> list[str]:
    """InsTag's algorithm 1 as it is written: pass over the pool again and again."""
    pool = sorted(rows, key=lambda r: (-len(r["tags"]), -r["score"], r["id"]))
    taken: list[dict] = []
    while len(taken) < n:
        covered: set[str] = set()
        before = len(taken)
        for item in list(pool):
            if len(taken) < n and set(item["tags"]) - covered:
                covered |= set(item["tags"])
                taken.append(item)
                pool.remove(item)
        if len(taken) == before:
            break
    return [item["id"] for item in taken]


@pytest.mark.parametrize("n", [1, 37, 150, 400])
def test_instag_order_is_the_published_algorithm(n: int) -> None:
    """The fast form must take the same rows in the same order."""
    rng = random.Random(n)
    rows = [
        row(f"{i:03}", rng.sample("abcdefghijklmnop", rng.randrange(4)), rng.choice([0.0, 1.0])) for i in range(300)
    ]
    assert by_instag(rows, n) == sampled_by_definition(rows, n)


def spread_by_definition(order: list[int], groups: list[list[str]], costs: list[int]) -> list[int]:
    """At each step the group that has had least (then the preferred row) gives its first row."""
    left, had, taken = list(order), dict.fromkeys((g for own in groups for g in own), 0), []
    while left:
        heads = {}
        for rank, at in enumerate(left):
            for group in groups[at]:
                heads.setdefault(group, rank)
        _, rank = min((had[group], rank) for group, rank in heads.items())
        taken.append(left.pop(rank))
        for group in groups[taken[-1]]:
            had[group] += costs[taken[-1]]
    return taken


@pytest.mark.parametrize("seed", range(4))
def test_spread_is_its_definition(seed: int) -> None:
    """The heap only spares work: the order is that of looking at every group at every step."""
    rows, rng = drawn(200, seed), random.Random(seed)
    order = rng.sample(range(200), 200)
    for groups in ([[item["tags"][0]] for item in rows], [item["tags"] for item in rows]):
        for costs in ([1] * 200, [item["tokens"] for item in rows]):
            assert list(spread(order, groups, costs)) == spread_by_definition(order, groups, costs)


@pytest.mark.parametrize("by", selection.WAYS)
@pytest.mark.parametrize("tokens", [0, 4000])
def test_every_way_keeps_its_budget_in_any_order(by: str, tokens: int) -> None:
    """A reshuffled input must give the same set, or a rerun trains on other rows; no row is left without a rule."""
    rows = [*drawn(300), row("untagged", [])]
    chosen = selection.choose(rows, by, 0.2, tokens, ("task", "lang"))
    assert [item["id"] for item in chosen] == [item["id"] for item in rows]
    assert {item["selection"] for item in chosen} <= {"refined", "ranked_lower", "over_budget", "no_tags"}
    taken = [item for item in chosen if item["selection"] == "refined"]
    used = sum(item["tokens"] for item in taken)
    assert 4000 - min(item["tokens"] for item in rows) < used <= 4000 if tokens else len(taken) == 60
    again = random.Random(1).sample(rows, len(rows))
    assert sorted(refined(again, by, 0.2, tokens, ("task", "lang"))) == sorted(item["id"] for item in taken)
    assert (by == "instag") == ("no_tags" in {item["selection"] for item in chosen})


def test_score_takes_the_best_of_each_class() -> None:
    """One easy category with high scores must not fill the refined set."""
    rows = [
        row(f"{g}{s}", [g, "z"], s) for g, scores in {"q": [9, 8, 7, 6], "w": [3, 2], "m": [1]}.items() for s in scores
    ]
    assert refined(rows, "score", 3 / 7) == ["q9", "w3", "m1"]
    assert refined(rows, "score", 4 / 7) == ["q9", "q8", "w3", "m1"]
    assert refined(rows, "score", 4 / 7, balance=()) == ["q9", "q8", "q7", "q6"]


def test_score_balances_rows_or_tokens_over_all_axes() -> None:
    """As many rows of every class, or as many tokens where tokens are the budget, as long as a class has any."""
    rows = drawn(2000)
    more = {"messages": [{"role": role, "content": "話"} for role in ("user", "assistant") * 3]}
    rows += [row(f"m{i:03}", ["a"], 0.0, 80, **more) for i in range(200)]
    chosen = selection.choose(rows, "score", 0.02, balance=tuple(selection.AXES))
    found = {(e["by"], e["group"]): e["refined_rows"] for e in selection.selection_rows(chosen)}
    assert found["rule", "refined"] == 44 and found["rounds", "3"] in (3, 4), "of 13 classes that there are"
    assert min(found["task", task] for task in "abc") >= 10 and found["lang", "en"] >= 18
    chosen = selection.choose(rows, "score", 0.0, 9000, ("task",))
    tokens = {e["group"]: e["refined_tokens"] for e in selection.selection_rows(chosen) if e["by"] == "task"}
    assert set(tokens) == set("abc") and max(tokens.values()) - min(tokens.values()) <= 500


def test_tags_spread_over_every_tag_and_not_by_score() -> None:
    """The comparison for the score must itself be diverse, and must not look at the score."""
    rows = drawn(500)
    counts = {tag: 0 for tag in "defghijklmnop"}
    for item in selection.choose(rows, "tags", 0.2):
        for tag in item["tags"][1:] if item["selection"] == "refined" else ():
            counts[tag] += 1
    assert max(counts.values()) <= 2 * min(counts.values())
    scored = [item | {"score": -item["score"]} for item in rows]
    for by in ("tags", "random", "longest"):
        assert refined(rows, by, 0.2) == refined(scored, by, 0.2)


def test_random_is_another_set_with_another_seed_and_grows_with_the_share() -> None:
    """A larger share adds rows and takes none back, so that two sizes can be compared."""
    rows = drawn(400)
    small, large = set(refined(rows, "random", 0.1)), set(refined(rows, "random", 0.3))
    assert small < large and small != set(refined(rows, "random", 0.1, seed=1))
    assert abs(sum(rows[int(key)]["score"] for key in large) / 120 - 0.5) < 0.1


def test_longest_is_by_answer_and_a_row_that_does_not_fit_is_named() -> None:
    """A long prompt is no long answer; what is too long for the tokens left makes room for the next."""
    sizes = {"a": (60, 40), "b": (50, 30), "c": (30, 20), "prompt": (90, 10), "d": (9, 5)}
    rows = [row(key, ["t"], tokens=tokens, answer_tokens=answer) for key, (tokens, answer) in sizes.items()]
    rules = {item["id"]: item["selection"] for item in selection.choose(rows, "longest", 0.0, 95)}
    assert rules == dict.fromkeys("ac", "refined") | {"b": "over_budget"} | dict.fromkeys(
        ("prompt", "d"), "ranked_lower"
    )


def test_selection_rows_account_for_rows_and_tokens() -> None:
    """Each axis counts every row once, before and after."""
    rows = selection.choose(selection.with_tokens(drawn(100), len), "score", 0.3)
    assert rows[0]["tokens"] == 7 and rows[0]["answer_tokens"] == 3
    table = selection.selection_rows(rows)
    for by in ("rule", "source", *selection.AXES):
        entries = [entry for entry in table if entry["by"] == by]
        sums = [sum(e[k] for e in entries) for k in ("rows", "tokens", "refined_rows", "refined_tokens")]
        assert sums == [100, 700, 30, 210], by
    assert selection.selection_rows([]) == [] and selection.choose([], "score", 0.5) == []


def test_every_way_is_compared_at_equal_tokens() -> None:
    """A score must be seen beside chance, length and diversity before anything is trained on its choice."""
    rows = [item | {"score": None if at % 50 == 0 else item["score"]} for at, item in enumerate(drawn(600))]
    chosen = selection.choose(rows, "score", 0.0, 9000)
    table = {entry["by"]: entry for entry in selection.compared_ways(chosen)}
    assert list(table) == list(selection.WAYS) and table["score"]["common"] == 1.0
    assert all(8900 < entry["tokens"] <= 9000 for entry in table.values())
    assert max(table.values(), key=lambda entry: entry["score"])["by"] == "score"
    assert max(table.values(), key=lambda entry: entry["answer_tokens"])["by"] == "longest"
    assert max(table.values(), key=lambda entry: entry["complexity"])["by"] == "instag"
    assert table["random"]["common"] < 0.6 and abs(table["random"]["score"] - 0.5) < 0.2
    assert table["tags"]["coverage"] == 1.0 and table["tags"]["tags"] == 16
    assert selection.compared_ways(selection.choose(rows, "score", 0.0)) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "scores"}, "refined_by 'scores' is not known; choose from score, instag, random, longest, tags"),
        ({"balance": ("topic",)}, "refined_balance topic is not known; choose from task, lang, rounds, length"),
        ({"share": 14}, "refined_share 14 is outside 0 to 1"),
        ({"tokens": -1}, "refined_tokens -1 is below 0"),
    ],
)
def test_wrong_settings_are_named(options: dict, message: str) -> None:
    """A misspelt way must not fall back to another."""
    with pytest.raises(KyaraError, match=message):
        selection.choose([], **{"by": "score", "share": 0.5, **options})
