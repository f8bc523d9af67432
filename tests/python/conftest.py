"""What holds for every test."""

import gc
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from flax import nnx
from hypothesis import settings
from jax.experimental.compilation_cache import compilation_cache

import nnx_wrappers
from support import shares

# Slow machines are no failures. CI draws the same examples in every run.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# JAX's caches grow: walking them again and again took a tenth of the time. (No gc.freeze: what is
# frozen is never freed, and sanitized builds end a process that leaks.)
gc.set_threshold(100_000, 20, 100)

MAPPINGS = Path("/proc/self/maps")
MAX_MAPPINGS = 20_000
TESTS_RUN = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--share", default="1/1", help="K/N: share K of N of the layers' catalogues")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what other shares have."""
    try:
        share = shares.parse(config.getoption("share"))
    except ValueError as error:
        raise pytest.UsageError(f"--share: {error}") from None

    pairs = shares.Pairs()
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        pair = pairs.of(item)
        (kept if pair is None or shares.holds(share, pair) else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def pytest_runtest_teardown() -> None:
    """Linux gives a process 65,530 mappings of memory. Each compiled program takes some, and XLA
    crashes where there is none left."""
    if next(TESTS_RUN) % 100 or not MAPPINGS.exists():
        return
    with MAPPINGS.open(encoding="utf-8", errors="replace") as mappings:
        count = sum(1 for _ in mappings)
    if count > MAX_MAPPINGS:
        jax.clear_caches()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what checks that a feature is used, where it is off."""
    features = nnx_wrappers.features()
    for marker in item.iter_markers("feature"):
        for name in marker.args:
            if features[name] is not None:
                pytest.skip(f"{name} is off: {features[name]}")


@pytest.fixture(scope="session", autouse=True)
def kept_programs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiles less: both sides of a comparison mostly run one program."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("programs")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()


@pytest.fixture
def fresh_caches() -> Iterator[None]:
    """A test that counts begins with empty caches, and leaves none behind."""
    nnx_wrappers.clear_caches()
    yield
    nnx_wrappers.clear_caches()


@pytest.fixture(params=[True, False], ids=["plans", "no_plans"])
def with_and_without_plans(request: pytest.FixtureRequest, fresh_caches: None) -> Iterator[None]:
    """The test runs twice."""
    before = nnx_wrappers.use_plans(request.param)
    yield
    nnx_wrappers.use_plans(before)


@pytest.fixture
def fresh_jax() -> Iterator[None]:
    """JAX's own jitted functions keep what a provider of Qwix made of them."""
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.fixture
def without_eager_sharding() -> Iterator[None]:
    """Flax's own conversions need a mesh for annotated values; ours never do."""
    with nnx.use_eager_sharding(False):
        yield


@pytest.fixture(scope="module")
def no_interrupting_threads() -> Iterator[None]:
    """No other thread takes over in the middle, where a test has started none.

    A constructor is not kept when another thread has run meanwhile, and the workers that run
    these tests have a thread that waits for messages.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1.0)
    yield
    sys.setswitchinterval(interval)
