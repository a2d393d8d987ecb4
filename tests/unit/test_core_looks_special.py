"""The special functions that the rules ask for, beside SciPy's own where they are ours."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import scipy.special  # pyright: ignore[reportMissingTypeStubs]

from tidegate.core.looks_special import log_sum_exp

logsumexp = cast(Any, scipy.special).logsumexp


@pytest.mark.parametrize("shape", [(10,), (10, 50), (3, 4, 5), (1, 1)])
def test_the_log_of_a_sum_of_exponentials_is_scipys(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).normal(0.0, 800.0, shape)
    values.flat[0] = -np.inf
    for axis in range(len(shape)):
        assert log_sum_exp(values, axis) == pytest.approx(logsumexp(values, axis=axis), rel=1e-13)


def test_nothing_at_all_adds_up_to_nothing() -> None:
    assert log_sum_exp(np.full((3, 2), -np.inf), 0).tolist() == [-np.inf, -np.inf]
