"""Compiles little: both sides mostly run the same programs, and run them once."""

import typing as tp

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

_SETTINGS = {
    "jax_disable_most_optimizations": True,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@pytest.fixture(scope="package", autouse=True)
def fast_compilation(tmp_path_factory: pytest.TempPathFactory) -> tp.Iterator[None]:
    """A compilation cache of this run's own, given back as it was found."""
    directory = str(tmp_path_factory.mktemp("compiled"))
    settings = {**_SETTINGS, "jax_compilation_cache_dir": directory}
    before = {name: jax.config.values[name] for name in settings}
    _configure(settings)
    yield
    _configure(before)


def _configure(settings: dict[str, tp.Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
