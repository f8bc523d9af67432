"""Compiles fast: layers are compared in many modes, each a program of its own."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(scope="package", autouse=True)
def fast_compilation() -> Iterator[None]:
    """Hardly any optimizations, given back as they were found."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
