"""The Linen box of an NNX Variable."""

import typing as tp

from flax import nnx

from nnx_wrappers import _core


class NNXMeta(nnx.bridge.NNXMeta):
    """A Linen box that keeps the type and the metadata of an `nnx.Variable`.

    A subclass of Flax's, whose `add_axis` and `remove_axis` do nothing: here the
    sharding names follow the axes that `nn.scan` and `nn.vmap` add and remove, and
    the Variable's axis hooks run.

    Attributes:
      var_type: the Variable type.
      value: the value.
      metadata: the Variable's metadata.

    Example::

      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import nnx_wrappers
      >>> box = nnx_wrappers.NNXMeta(nnx.Param, jnp.ones((2, 3)), {'out_sharding': ('in', 'out')})
      >>> box.add_axis(0, {'partition_name': 'layers'}).metadata['out_sharding']
      ('layers', 'in', 'out')
    """

    def add_axis(self, index: int, params: tp.Mapping[tp.Any, tp.Any]) -> "NNXMeta":
        """The box after a transformation added an axis at `index`."""
        return _core.nnx_meta_add_axis(self, index, params)

    def remove_axis(self, index: int, params: tp.Mapping[tp.Any, tp.Any]) -> "NNXMeta":
        """The inverse of `add_axis`; ValueError if another axis stands at `index`."""
        return _core.nnx_meta_remove_axis(self, index, params)

    def to_nnx_variable(self) -> nnx.Variable:
        """The Variable that this box describes."""
        return _core.nnx_meta_to_variable(self)
