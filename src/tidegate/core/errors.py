"""Errors that say what is wrong and what to do next; each room raises these or a subclass of its own."""

from __future__ import annotations


class TidegateError(Exception):
    """Something was refused. The message is one sentence for a person; nothing has been changed."""


class BadInput(TidegateError):
    """The input cannot be read as what it should be: exit code 2, HTTP 400."""


class Refused(TidegateError):
    """The input is understood and the answer is no: exit code 1, HTTP 409."""


class NotFound(BadInput):
    """What is named does not exist: exit code 2, HTTP 404."""


class Untrusted(TidegateError):
    """A signature, digest, credential or date does not hold: exit code 1, HTTP 401 or 403."""
