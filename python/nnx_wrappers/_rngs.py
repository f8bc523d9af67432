"""The `nnx.Rngs` that `ToLinen` gives to a constructor in `init`."""

import typing as tp

from flax import nnx

from nnx_wrappers import _core


class LinenRngs(nnx.Rngs):
    """An `nnx.Rngs` whose missing streams fall back to 'params', as those of Linen do."""

    def _get_stream(self, name: str, error_type: type[Exception]) -> nnx.RngStream:
        return _core.to_linen_stream(self, name, error_type)

    def fork(self, **kwargs: tp.Any) -> "LinenRngs":
        return LinenRngs(dict(super().fork(**kwargs).items()))
