"""Reports how much was compared."""

import pytest

from .compare import compared


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line: results and leaves that were found equal."""
    if compared["results"]:
        terminalreporter.write_line(
            "flax.nnx layers: {results} results, {leaves} leaves equal to Flax's".format(**compared)
        )
