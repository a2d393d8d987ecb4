"""Tidegate runs every update as a randomized trial, within a budget of harm that you declare."""

__version__ = "0.1.0"
