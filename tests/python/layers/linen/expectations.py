"""Where a run of the oracle ends with an error: which error, for which cases.

A case that is not named here has to work on both sides.
"""

from flax.errors import (
    InvalidRngError,
    ModifyScopeVariableError,
    ScopeCollectionNotFound,
    ScopeParamShapeError,
)

from .case import Case

_NO_PARAMS = {
    "Fp8DirectDotGeneralOp",
    "Fp8DotGeneralOp",
    "Fp8Einsum",
    "NANOOFp8DotGeneralOp",
    "Stateless",
    "TreeVariables",
    "named_axes.LayerNorm",
}
_NO_VARIABLES = {"Dropout", "Stateless", "named_axes.LayerNorm"}
_DROPS_OUT = {
    "CompactModel",
    "Dropout",
    "Lifted",
    "MultiHeadAttention",
    "MultiHeadDotProductAttention",
    "Scanned",
    "SelfAttention",
}
_WRITES_VARIABLES = {
    "BatchNorm",
    "CompactModel",
    "Keys",
    "Lifted",
    "MultiHeadAttention-decode",
    "Partitioned",
    "Scanned",
    "SelfAttention-decode",
    "SpectralNorm",
    "TreeVariables",
}


def expected_error(mode: str, case: Case) -> type[Exception] | None:
    """The error that the oracle raises, or None."""
    if mode in ("unknown_method", "unknown_attribute"):
        return AttributeError
    # The second call meets what the first one captured.
    if mode.startswith("capture") and case.name == "SpectralNorm":
        return AttributeError
    if mode.startswith("capture") and case.name == "HoldsNNX":
        return ValueError
    if mode == "lazy_init_without_rngs" and case.name == "HoldsNNX":
        return AttributeError  # Linen has no keys to give to the NNX class.
    if mode == "lazy_init_without_rngs" and case.name not in _NO_PARAMS:
        return InvalidRngError
    if mode == "call_before_lazy_init" and case.name not in _NO_VARIABLES:
        return ScopeCollectionNotFound
    if mode == "call_with_misshapen_params" and case.name in ("HoldsNNX", "TreeParams"):
        return TypeError  # From the arithmetic: Linen checks no params that are trees.
    if mode == "call_with_misshapen_params" and case.name not in _NO_PARAMS | {"Dropout", "Keys"}:
        return ScopeParamShapeError
    if mode == "call_without_rngs" and case.name in _DROPS_OUT:
        return InvalidRngError
    if mode in ("mutable_false", "mutable_empty_list") and case.name in _WRITES_VARIABLES:
        return ModifyScopeVariableError
    if mode == "mutable_name" and case.name == "TreeVariables":
        return ModifyScopeVariableError  # It writes to two collections.
    return None
