"""ZebraLogic: who lives in which house? A grid is filled in from clues."""

from kyara_utils.evaluation.golden.answers import GRID
from kyara_utils.evaluation.question_files import Row
from kyara_utils.evaluation.registry import register
from kyara_utils.evaluation.scored import zebra
from kyara_utils.evaluation.scored.json_answer import JsonAnswer


@register
class ZebraLogic(JsonAnswer):
    """The solutions are masked in the public set; the gated one holds them."""

    name = "zebra_logic"
    title = "ZebraLogic"
    dataset = "allenai/ZebraLogicBench-private"
    config = "grid_mode"
    licence = "gated"
    n = 1000
    golden = "zebra-grid"
    tolerances = GRID

    def item(self, row: Row, subject: str) -> Row:
        """The puzzle, its size and the solved grid."""
        return {"puzzle": row["puzzle"], "size": row["size"], "answer": row["solution"]}

    def question(self, item: Row) -> str:
        """The puzzle as it is."""
        return item["puzzle"]

    def shape(self, item: Row) -> Row:
        """A table with the puzzle's own houses and columns."""
        _, *columns = item["answer"]["header"]
        houses = {f"House {i}": dict.fromkeys(columns, "...") for i in range(1, len(item["answer"]["rows"]) + 1)}
        return {"reasoning": "...", "solution": houses}

    def read(self, text: str, row: Row, model: str = "") -> Row:
        """Cells against the solution; `size` goes with the row."""
        grid = row["solution"] if "solution" in row else row["answer"]
        return zebra.score_grid(text, grid) | {"size": str(row.get("size", ""))}

    def totals(self, scored: list[Row]) -> dict[str, float]:
        """By puzzle, by cell and by size."""
        return zebra.summarise_grids(scored)
