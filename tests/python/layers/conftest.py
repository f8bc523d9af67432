"""Compiles fast, and reports how much was compared."""

from collections.abc import Iterator

import jax
import pytest

from .compare import compared


@pytest.fixture(scope="package", autouse=True)
def fast_compilation() -> Iterator[None]:
    """Hardly any optimizations: each mode of a layer is a program of its own."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line: results and leaves that were found equal."""
    if compared["results"]:
        terminalreporter.write_line(
            "layers: {results} results, {leaves} leaves equal to Flax's".format(**compared)
        )
