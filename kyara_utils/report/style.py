"""House style: fonts with every glyph, one colour per model, reproducible files, and honest figures for no
rows.

The fonts come from two pip packages, because what a machine has installed differs (Kaggle and Colab draw
Traditional Chinese with Japanese shapes, or not at all) and a figure must be the same everywhere.
"""

import functools
import io
import math
import textwrap
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib.colors
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing
from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import wilson

STYLE = Path(__file__).with_name("kyara.mplstyle")
WIDTH = 6.4  # inches, the text width of a page

# Okabe & Ito 2008, told apart by colour-blind readers too. One colour for one model in every figure.
MODEL_COLOURS = {"base": "#999999", "sft_base": "#56B4E9", "sft": "#0072B2", "dpo": "#D55E00"}
COMPETITOR_COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#000000", "#F0E442")
# Paul Tol's muted scheme for sources and parts, so that no source looks like a model.
PART_COLOURS = (
    "#332288",
    "#88CCEE",
    "#44AA99",
    "#117733",
    "#999933",
    "#DDCC77",
    "#CC6677",
    "#882255",
    "#AA4499",
)
OWN_SOURCES = ("rag", "followup", "rag_cited", "document", "math", "rag_short")
SOURCE_COLOURS = dict(zip(OWN_SOURCES, PART_COLOURS, strict=False))
INK, FAINT = "#333333", "#c8c8c8"


@functools.cache
def _register_fonts() -> None:
    import pylopdf_fonts_zh_cn
    import pylopdf_fonts_zh_tw

    for package in (pylopdf_fonts_zh_tw, pylopdf_fonts_zh_cn):
        fontManager.addfont(str(package.sans_path()))


def house_style():
    """Context in which matplotlib follows the house style; the caller's settings return afterwards."""
    _register_fonts()
    return matplotlib.style.context(str(STYLE))


def figure_of(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator of the figure functions: draw in house style, and say "no rows" where the table is empty."""

    @functools.wraps(function)
    def draw(rows: Iterable[Row], *args: Any, **kwargs: Any) -> Figure:
        table = list(rows)
        with house_style():
            return function(table, *args, **kwargs) if table else _no_rows(function.__name__)

    return draw


def _no_rows(name: str) -> Figure:
    figure = Figure(figsize=(WIDTH, 1.6))
    figure.text(0.5, 0.4, "no rows", ha="center", va="center", color="#777777", size=11)
    title(figure, f"{name.replace('_', ' ').capitalize()}: no rows")
    return figure


def save_figure(figure: Figure, folder: Path, name: str) -> Path:
    """Write `folder/name.png` at 200 dpi and return its path; equal figures give equal bytes.

    Raises KyaraError where a label needs a glyph that no font has: an empty box in a figure is an error.
    """
    path = Path(folder) / f"{name}.png"
    image = _png(figure, name)
    with replacing(path) as temporary:
        temporary.write_bytes(image)
    return path


def picture(figure: Figure, width: int = 640) -> Any:
    """A figure as a cell shows it, `width` pixels wide: our figures know nothing of a notebook's drawing backend."""
    from IPython.display import Image

    return Image(_png(figure, "in this cell"), width=width)


def _png(figure: Figure, name: str) -> bytes:
    image = io.BytesIO()
    with house_style(), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph .* missing")
        try:
            figure.savefig(image, format="png", metadata={"Software": None, "Title": _heading(figure)})
        except UserWarning as warning:
            raise KyaraError(f"figure {name}: {warning}; remove the character or add a font that has it") from warning
    return image.getvalue()


def _heading(figure: Figure) -> str:
    return figure.get_suptitle().replace("\n", " ")


def title_of(path: Path) -> str:
    """The title of a figure that `save_figure` wrote, for those who read it instead of seeing it; "" without one."""
    from PIL import Image

    with Image.open(path) as image:
        return str(image.info.get("Title", ""))


def title(figure: Figure, finding: str, note: str = "") -> None:
    """Set the finding as the figure's title, wrapped to its width; `note` follows on a line of its own."""
    lines = [line for text in (finding, note) for line in textwrap.wrap(text.replace(" %", "\u00a0%"), 92)]
    figure.suptitle("\n".join(lines).replace("\u00a0", " "), x=0.01, ha="left")  # no line begins with a per cent sign


def sentence(finding: str, note: str = "") -> Figure:
    """A figure that only says its finding: one bar alone shows no more than a sentence does."""
    figure = Figure(figsize=(WIDTH, 0.75 if note else 0.5))
    title(figure, finding, note)
    return figure


def with_interval(k: float, n: float) -> str:
    """k of n in per cent with its 95 % interval (Wilson), e.g. `53 % (36 to 69)`; `n/a` for n = 0."""
    if not n or math.isnan(k) or math.isnan(n):
        return "n/a"
    low, high = wilson(k, int(n))
    return f"{percent(k / n)} ({100 * low:.0f} to {100 * high:.0f})"


def canvas(height: float = 3.6, rows: int = 1, columns: int = 1, **kwargs: Any) -> tuple[Figure, np.ndarray]:
    """Return a figure of the house width and its axes as a flat array."""
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.subplots(rows, columns, squeeze=False, **kwargs).ravel()


def model_colours(models: Iterable[str]) -> dict[str, str]:
    """Colour of each model; competitors get theirs in alphabetical order, so one table always draws the
    same."""
    names = list(dict.fromkeys(models))
    others = sorted(name for name in names if name not in MODEL_COLOURS)
    spare = {name: COMPETITOR_COLOURS[i % len(COMPETITOR_COLOURS)] for i, name in enumerate(others)}
    return {name: MODEL_COLOURS.get(name) or spare[name] for name in names}


def part_colours(parts: Iterable[str]) -> dict[str, str]:
    """Colour of each source or part: a source of ours has the same in every figure, others follow in their order."""
    names = list(dict.fromkeys(parts))
    spare = [colour for colour in PART_COLOURS if colour not in {SOURCE_COLOURS.get(name) for name in names}]
    others = [name for name in names if name not in SOURCE_COLOURS]
    return {name: SOURCE_COLOURS.get(name) or spare[others.index(name) % len(spare)] for name in names}


def numbers(rows: list[Row], column: str) -> np.ndarray:
    """A column as floats, NaN where it is empty. Raises KyaraError where it is missing or holds text."""
    try:
        return np.array([math.nan if row[column] in ("", None) else float(row[column]) for row in rows])
    except KeyError as error:
        raise KyaraError(f"the table has no column {column}; it has {', '.join(rows[0])}") from error
    except (TypeError, ValueError) as error:
        raise KyaraError(
            f"the column {column} holds something that is no number ({error}); correct the table"
        ) from error


def names(rows: list[Row], column: str) -> list[str]:
    """A column as text. Raises KyaraError where it is missing."""
    try:
        return [str(row[column]) for row in rows]
    except KeyError as error:
        raise KyaraError(f"the table has no column {column}; it has {', '.join(rows[0])}") from error


def cells_of(rows: list[Row], outer: str, inner: str) -> dict[tuple[str, str], Row]:
    """Rows by their (outer, inner) names, with value, low and high as floats."""
    columns = {column: numbers(rows, column) for column in ("value", "low", "high")}
    keys = zip(names(rows, outer), names(rows, inner), strict=True)
    return {
        key: row | {column: float(values[i]) for column, values in columns.items()}
        for i, (key, row) in enumerate(zip(keys, rows, strict=True))
    }


def short(text: str, width: int = 22) -> str:
    """Text on one line and cut to `width` characters, so that one long label cannot squeeze the figure."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def wrapped(text: str, width: int = 25) -> str:
    """A label in lines of at most `width` characters, broken at spaces and hyphens; nothing is cut."""
    return "\n".join(textwrap.wrap(" ".join(text.split()), width))


def percent(share: float, digits: int = 0) -> str:
    """A share as text, e.g. `31 %`; `n/a` for NaN."""
    return "n/a" if math.isnan(share) else f"{100 * share:.{digits}f} %"


def count(number: float, noun: str = "", plural: str = "") -> str:
    """A count with thousands commas, e.g. `1,234 rows`; `plural` defaults to the noun with an s."""
    word = noun if number == 1 else plural or f"{noun}s"
    return f"{int(number):,} {word}" if noun else f"{int(number):,}"


def errors(value: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Interval ends as the (2, n) distances that matplotlib wants; 0 where an end is unknown."""
    return np.nan_to_num(np.clip(np.array([value - low, high - value]), 0, None))


def text_colour(background: str) -> str:
    """White on dark colours, ink on light ones."""
    red, green, blue = matplotlib.colors.to_rgb(background)
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else INK


def horizontal_bars(axes: Axes, labels: list[str], values: np.ndarray, texts: list[str], colours: Any) -> None:
    """Bars from zero, first row on top, each with its value written at its end."""
    positions = np.arange(len(labels))
    axes.barh(positions, np.nan_to_num(values), color=colours, height=0.68)
    axes.set_yticks(positions, [short(label, 30) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.tick_params(axis="y", length=0)
    for position, value, text in zip(positions, np.nan_to_num(values), texts, strict=True):
        axes.annotate(text, (value, position), (4, 0), textcoords="offset points", va="center", color=INK, size=7.5)
    axes.set_xlim(0, max(np.nan_to_num(values).max(), 1e-9) * 1.25)
