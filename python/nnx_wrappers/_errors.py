"""The error of a `ToNNX` that has no variables yet."""

import typing as tp

from flax.errors import ScopeCollectionNotFound, ScopeParamNotFoundError

from nnx_wrappers import _core

if tp.TYPE_CHECKING:

    class NotInitializedError(ScopeParamNotFoundError, ScopeCollectionNotFound): ...

else:
    NotInitializedError = _core.not_initialized_error()
