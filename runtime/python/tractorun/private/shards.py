"""Who reads which rows."""

from __future__ import annotations

from typing import Tuple


def shard(start: int, end: int, index: int, count: int) -> Tuple[int, int]:
    """Part `index` of `count` of the rows from `start` to before `end`.

    Every row is in exactly one part, parts are in order, and no two differ by more than one row.
    """
    if not 0 <= index < count:
        raise ValueError(f"shard {index} of {count}: expected a number from 0 to before their count")
    rows = end - start
    return start + rows * index // count, start + rows * (index + 1) // count
