"""The estate's JSON Schema, as it is shipped: for editors that complete, and for tools that check."""

from __future__ import annotations

from importlib.resources import files


def estate_schema() -> str:
    """Give the schema's text (JSON Schema 2020-12)."""
    return files("tidegate.exposure").joinpath("estate.schema.json").read_text(encoding="utf-8")
