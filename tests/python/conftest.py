"""What holds for every test."""

import os

from hypothesis import settings

# Slow machines are no failures. CI draws the same examples in every run.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
