"""Tests of the room contingency."""
