"""The Rngs that a constructor is given while Linen initializes."""

import typing as tp

from flax import nnx

from nnx_wrappers import _core


class LinenRngs(nnx.Rngs):
    """`nnx.Rngs` with Linen's rule for missing streams: they fall back to 'params'."""

    def _get_stream(self, name: str, error_type: type[Exception]) -> nnx.RngStream:
        return _core.to_linen_stream(self, name, error_type)

    def fork(self, **kwargs: tp.Any) -> "LinenRngs":
        return LinenRngs(dict(super().fork(**kwargs).items()))
