"""Arrays that grow, so that what is kept of a stream lies side by side and is compared in one operation."""

import numpy as np


class Growing:
    """An array [rows, *shape]; `rows` is a view of what is there, which the next `extend` may leave behind."""

    def __init__(self, dtype: type, *shape: int) -> None:
        self._data, self._count = np.empty((16, *shape), dtype), 0

    @property
    def rows(self) -> np.ndarray:
        """All rows so far."""
        return self._data[: self._count]

    def extend(self, rows: np.ndarray) -> None:
        """Append rows, in time linear in their number over many calls."""
        end = self._count + len(rows)
        if end > len(self._data):
            larger = np.empty((max(end, len(self._data) * 3 // 2), *self._data.shape[1:]), self._data.dtype)
            larger[: self._count] = self.rows
            self._data = larger
        self._data[self._count : end] = rows
        self._count = end
