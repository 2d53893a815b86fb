"""Claims about settings: what a search may try is what a fit accepts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from bcdx.config import Space


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dropout": [0.2, 1.5]}, "dropout: Input should be less than 1, received 1.5"),
        ({"weight_decay": [-1.0]}, "weight_decay: Input should be greater than or equal to 0"),
        ({"strength": [7.0]}, "strength: Input should be less than or equal to 1, received 7.0"),
        ({"learning_rate": [0.0]}, "learning_rate: Input should be greater than 0"),
        ({"learning_rate": [float("nan")]}, "learning_rate: Input should be"),
        ({"learning_rate_range": [1e-2, 1e-4]}, "the lower one first, received"),
        ({"learning_rate_range": [0.0, 1e-4]}, "two rates above 0"),
        ({"depth": ["mixed3/mixed2"]}, "freezes deeper than the last block it pools"),
        ({"depth": ["none/mixed2", "none/mixed2"]}, "depth names a candidate twice"),
        ({"dropout": [0.2, 0.2]}, "dropout names a candidate twice"),
    ],
)
def test_space_refuses_what_a_fit_would_refuse(values: dict[str, Any], message: str) -> None:
    """With the limits of the settings that the candidates become, not with its own."""
    with pytest.raises(ValidationError) as caught:
        Space.model_validate(values)
    assert message in str(caught.value)


def test_space_takes_the_limits_themselves() -> None:
    """No dropout, no decay and full strength are candidates like others."""
    space = Space(dropout=(0.0,), weight_decay=(0.0,), strength=(0.0, 1.0), learning_rate_range=(1e-5, 1e-4))
    assert (0.0, 1.0) == space.strength
