"""The command line: one file per group of commands."""


def main() -> None:
    """Run the command line; the console script's entry."""
    from tidegate.cli.main import run

    run()
