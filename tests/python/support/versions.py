"""What the installed Flax spells in its own way, found by asking it and not by its number."""

import pytest
from flax import nnx

# The key of a Variable's metadata that names the axes of its value.
_ANNOTATED = nnx.with_partitioning(lambda: None, ("axis",))().metadata
SHARDING = next(key for key in ("out_sharding", "sharding_names") if key in _ANNOTATED)

# The one that asks for a Variable whose value lies in a `jax.Ref`.
REF = next(key for key in ("ref", "has_ref") if key in nnx.Variable.required_metadata)

# The module of Flax with the functions on graphs.
graphlib = getattr(nnx, "graphlib", None) or nnx.graph

# Whether a value that is no array is state if it is marked with `nnx.data`.
DATA_MARKS = hasattr(graphlib, "DataElem")

with_var_defaults = pytest.mark.skipif(
    not hasattr(nnx, "var_defaults"), reason="this Flax has no nnx.var_defaults"
)
