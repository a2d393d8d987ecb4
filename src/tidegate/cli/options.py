"""What options of all commands have in common: how a yes or no is written, and which defaults are worth showing."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter


def _shown(value: object) -> str | None:
    """Give a default as the help shows it: what is off or empty out of the box goes without saying."""
    return None if value is None or value is False or value == "" else str(value)


COMMON = Parameter(negative_bool=(), negative_iterable=(), show_default=_shown)
"""`--json` has no opposite, since leaving it out is one; nor has a list."""

OnOff = Annotated[bool, Parameter(negative_bool="no-")]
"""A yes or no that is on out of the box, so that people need a word for off."""

Change = Annotated[bool | None, Parameter(negative_bool="no-")]
"""A setting to be turned on or off, or left as it is."""
