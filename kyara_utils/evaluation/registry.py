"""All benchmarks by name: each module registers its own, and everything else loops over them.

The order is that of the tables and of the golden check.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from kyara_utils.evaluation.benchmark import Benchmark
from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.runs.errors import KyaraError

Check = Callable[[Path], Iterator[Figure]]
MODULES = (  # of this package; one benchmark each, or one in several versions
    "miniature.multiple_choice", "miniature.maths", "miniature.instruction_following", "miniature.pairwise",
    "reading.open_book", "reading.unanswerable", "reading.cited_answers", "reading.drcd",
    "scored.crux", "scored.gsm8k", "scored.math_l5", "scored.mmlu_redux", "scored.zebra", "scored.tmmlu",
    "scored.tmmlu_plus", "scored.leaderboard", "judged.mt_bench", "judged.mt_bench_tw", "judged.alpaca",
    "judged.arena", "judged.alignbench", "judged.agreement", "answer_form",
)  # fmt: skip
PACKAGE = "kyara_utils.evaluation"
_benchmarks: dict[str, Benchmark] = {}
_checks: dict[str, Check] = {}


def register(benchmark: type[Benchmark] | Benchmark) -> type[Benchmark] | Benchmark:
    """Make a benchmark known, under its name; also a class decorator. Raises KyaraError for a name that is taken."""
    one = benchmark() if isinstance(benchmark, type) else benchmark
    known = _benchmarks.get(one.name)
    if not one.name or (known and type(known).__qualname__ != type(one).__qualname__):
        raise KyaraError(f"a benchmark named {one.name!r} cannot be registered; give it a name of its own")
    _benchmarks[one.name] = one
    return benchmark


def register_check(name: str, check: Check) -> None:
    """Add a golden check that belongs to no benchmark, such as that of judges."""
    _checks[name] = check


def benchmarks() -> dict[str, Benchmark]:
    """Every benchmark by name, in the tables' order; those registered from outside the package come last."""
    modules = [f"{PACKAGE}.{module}" for module in MODULES]
    for module in modules:
        import_module(module)
    places = {module: place for place, module in enumerate(modules)}
    return dict(sorted(_benchmarks.items(), key=lambda item: places.get(type(item[1]).__module__, len(places))))


def get(name: str) -> Benchmark:
    """The benchmark of this name. Raises KyaraError that lists the known ones."""
    found = benchmarks()
    if name not in found:
        raise KyaraError(f"no benchmark {name}; known: {', '.join(found)}")
    return found[name]


def checks() -> dict[str, Check]:
    """Every golden check by name."""
    return {name: one.check for name, one in benchmarks().items()} | _checks
