"""The cells of an HTML table in their columns, spans spread out, so that an empty cell shifts nothing."""

from typing import Any, NamedTuple

WIDEST = 200  # columns; a table that claims more is cut there
LONGEST_SPAN = 2000  # rows


class Cell(NamedTuple):
    """A table cell; `shown` is false in the further columns of a cell that spans several."""

    element: Any
    shown: bool


def rows_of(table: Any) -> list[list[Cell | None]]:
    """Return the rows of a table, nested ones aside; a cell that spans rows stands in each of them."""
    rows: list[list[Cell | None]] = []
    hanging: dict[int, tuple[Cell, int]] = {}  # column: the cell from above and the rows it still spans
    for line in _lines(table):
        row: list[Cell | None] = []
        for element in line:
            if element.tag in ("td", "th"):
                _hang(row, hanging)
                _place(row, hanging, element)
        _hang(row, hanging)
        rows.append(row)
    return rows


def _lines(table: Any) -> list[Any]:
    found = []
    for child in table:
        if child.tag == "tr":
            found.append(child)
        elif child.tag in ("thead", "tbody", "tfoot"):
            found += [line for line in child if line.tag == "tr"]
    return found


def _hang(row: list[Cell | None], hanging: dict[int, tuple[Cell, int]]) -> None:
    while len(row) in hanging:
        column = len(row)
        cell, left = hanging.pop(column)
        row.append(cell)
        if left > 1:
            hanging[column] = (cell, left - 1)


def _place(row: list[Cell | None], hanging: dict[int, tuple[Cell, int]], element: Any) -> None:
    wide, deep = _span(element, "colspan", WIDEST), _span(element, "rowspan", LONGEST_SPAN)
    for at in range(min(wide, WIDEST - len(row))):
        cell = Cell(element, not at)
        if deep > 1:
            hanging[len(row)] = (cell, deep - 1)
        row.append(cell)


def _span(element: Any, name: str, most: int) -> int:
    value = element.get(name) or "1"
    return min(int(value), most) if value.isdigit() and int(value) else 1
