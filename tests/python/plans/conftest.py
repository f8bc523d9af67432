"""What holds for every test of plans."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def as_counted(no_interrupting_threads: None) -> None:
    """Tests of plans count them."""
