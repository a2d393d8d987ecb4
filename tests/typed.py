"""Commands as a person types them, run in the test's own process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidegate.cli.main import run

Run = Callable[..., tuple[int, str, str]]


def typed(capsys: pytest.CaptureFixture[str], *never: str) -> Run:
    """Give what runs a command and gives exit code, output and the error's line; what must `never` be said is not."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert not [secret for secret in never if secret in out + err]
        return int(ended.value.code or 0), out, err

    return call


def one_line(found: tuple[int, str, str], code: int, words: str) -> None:
    """See that a command ended with this code, one line on its standard error that says this, and nothing else."""
    assert (found[0], found[1]) == (code, ""), found
    assert words in found[2], found
    assert len(found[2].strip().splitlines()) == 1, found
