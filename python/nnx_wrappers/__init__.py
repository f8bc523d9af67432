"""The bridge between Flax's two module systems, Linen and NNX.

`ToNNX` uses a Linen module as an NNX module, `ToLinen` an NNX class as a Linen
module. The logic is in the C++ extension `_core`; this package adds the classes
that Flax's metaclasses have to see.
"""

import typing as tp

from nnx_wrappers import _supported  # noqa: F401, refuses other interpreters and a missing Flax
from nnx_wrappers._config import get_cmake_dir, get_include
from nnx_wrappers._core import (
    InternalError,
    cache_info,
    clear_caches,
    clear_usage,
    current_linen_module,
    features,
    get_col_name,
    install,
    is_linen_initializing,
    is_vanilla_variable,
    lazy_init,
    linen_rngs_dict,
    linen_vars_to_nnx_attrs,
    nnx_attrs_to_linen_vars,
    record_usage,
    to_linen_var,
    to_nnx_var,
    usage,
    use_plans,
    with_partitioning,
)
from nnx_wrappers._core import version as _version
from nnx_wrappers._errors import NotInitializedError
from nnx_wrappers._functional import Functional, functional
from nnx_wrappers._install import Installation
from nnx_wrappers._nnx_meta import NNXMeta
from nnx_wrappers._to_linen import ToLinen, to_linen
from nnx_wrappers._to_linen_class import to_linen_class
from nnx_wrappers._to_nnx import ToNNX

if tp.TYPE_CHECKING:  # imported when they are asked for: see __getattr__
    from nnx_wrappers.checkpoint import (
        compare_checkpoints,
        convert_checkpoint,
        dump_linen,
        inspect_checkpoint,
        load_linen,
    )

__version__ = _version()

__all__ = [
    "Functional",
    "Installation",
    "InternalError",
    "NNXMeta",
    "NotInitializedError",
    "ToLinen",
    "ToNNX",
    "cache_info",
    "clear_caches",
    "clear_usage",
    "compare_checkpoints",
    "convert_checkpoint",
    "current_linen_module",
    "dump_linen",
    "features",
    "functional",
    "get_cmake_dir",
    "get_col_name",
    "get_include",
    "inspect_checkpoint",
    "install",
    "is_linen_initializing",
    "is_vanilla_variable",
    "lazy_init",
    "linen_rngs_dict",
    "linen_vars_to_nnx_attrs",
    "load_linen",
    "nnx_attrs_to_linen_vars",
    "record_usage",
    "to_linen",
    "to_linen_class",
    "to_linen_var",
    "to_nnx_var",
    "usage",
    "use_plans",
    "with_partitioning",
]

_OF_CHECKPOINTS = {
    "compare_checkpoints",
    "convert_checkpoint",
    "dump_linen",
    "inspect_checkpoint",
    "load_linen",
}


if not tp.TYPE_CHECKING:  # for a type checker, no other name is there

    def __getattr__(name: str) -> tp.Any:
        """Imports what moves checkpoints when it is first asked for."""
        if name not in _OF_CHECKPOINTS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from nnx_wrappers import checkpoint

        return getattr(checkpoint, name)
