"""Keeps compiled programs for the run of this package, and reports how much was compared."""

import typing as tp

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from .compare import compared


def _configure(values: tp.Mapping[str, tp.Any]) -> None:
    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="package", autouse=True)
def kept_programs(tmp_path_factory: pytest.TempPathFactory) -> tp.Iterator[None]:
    """Each call of a layer with a scan compiles anew, most of them the same program."""
    wanted = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0.03,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in wanted}
    _configure(wanted)
    yield
    _configure(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line: results and leaves that were found equal."""
    if compared["results"]:
        terminalreporter.write_line(
            "flax.nnx layers: {results} results, {leaves} leaves equal to Flax's".format(**compared)
        )
