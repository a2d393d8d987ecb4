"""Columns of whole numbers in as few bytes as their greatest needs; the type grows with what is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_MOST = {np.dtype(f"{kind}{size}"): int(np.iinfo(f"{kind}{size}").max) for kind in "iu" for size in (1, 2, 4, 8)}


def wide_enough(column: npt.NDArray[Any], most: int) -> npt.NDArray[Any]:
    """Give the column itself, or a wider copy if a number of this magnitude does not fit into it.

    Args:
        column: whole numbers, signed or unsigned, of any shape.
        most: the greatest magnitude that is about to be written; less than 2**63.
    """
    if most <= _MOST[column.dtype]:
        return column
    size = next(size for size in (2, 4, 8) if most <= _MOST[np.dtype(f"{column.dtype.kind}{size}")])
    return column.astype(f"{column.dtype.kind}{size}")
