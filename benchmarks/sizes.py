"""How large the measured models are: small with `--short`, which only shows that all of it runs."""

import sys

IS_SHORT = "--short" in sys.argv

BLOCKS = 2 if IS_SHORT else 12
LAYERS = 8 if IS_SHORT else 100
