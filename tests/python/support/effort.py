"""How much a test tries: NNX_WRAPPERS_LONG=1 asks for the long form."""

import os

LONG = os.environ.get("NNX_WRAPPERS_LONG") == "1"


def examples(few: int) -> int:
    """How many examples hypothesis draws for one property."""
    return 10_000 if LONG else few
