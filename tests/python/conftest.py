"""What holds for every test."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

import nnx_wrappers

# Slow machines are no failures. CI draws the same examples in every run.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture
def fresh_caches() -> Iterator[None]:
    """A test that counts begins with empty caches, and leaves none behind."""
    nnx_wrappers.clear_caches()
    yield
    nnx_wrappers.clear_caches()
