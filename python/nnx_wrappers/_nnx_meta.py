"""The Linen box of an NNX Variable."""

import typing as tp

import jax
from flax import nnx

from nnx_wrappers import _core


class NNXMeta(nnx.bridge.NNXMeta):
    """A Linen box that keeps the type and the metadata of an `nnx.Variable`.

    A subclass of Flax's, whose `add_axis` and `remove_axis` do nothing: here the
    sharding names follow the axes that `nn.scan` and `nn.vmap` add and remove, and
    the Variable's axis hooks run.

    Attributes:
      var_type: the Variable type, such as `nnx.Param`.
      value: the value, an array as a rule.
      metadata: the Variable's metadata; sharding names are a tuple with one entry for
        each axis of the value.

    Example::

      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import nnx_wrappers
      >>> box = nnx_wrappers.NNXMeta(nnx.Param, jnp.ones((2, 3)), {'out_sharding': ('in', 'out')})
      >>> box.add_axis(0, {'partition_name': 'layers'}).metadata['out_sharding']
      ('layers', 'in', 'out')
    """

    def add_axis(self, index: int, params: tp.Mapping[tp.Any, tp.Any]) -> "NNXMeta":
        """The box after a transformation added an axis at `index`.

        Args:
          index: where the axis is in the result; negative numbers count from its end.
          params: the `metadata_params` of the transformation. Without 'partition_name'
            the axis is unnamed (None).

        Returns:
          A new box of the same value, whose sharding names have one entry more.

        Raises:
          TypeError: if `params` is no mapping.
          ValueError: if there is no such index.
        """
        return _core.nnx_meta_add_axis(self, index, params)

    def remove_axis(self, index: int, params: tp.Mapping[tp.Any, tp.Any]) -> "NNXMeta":
        """The inverse of `add_axis`.

        Args:
          index: where the axis was.
          params: the `metadata_params` with which it was added.

        Returns:
          A new box of the same value, whose sharding names have one entry less.

        Raises:
          TypeError: if `params` is no mapping.
          ValueError: if there is no such index, or an axis of another name stands there.
        """
        return _core.nnx_meta_remove_axis(self, index, params)

    def get_partition_spec(  # type: ignore[override]  # None where Flax fails
        self,
    ) -> jax.sharding.PartitionSpec | None:
        """The names of the axes as they are: logical names stay logical.

        `nn.logical_to_mesh_sharding` makes mesh axes of them. Flax's own box answers mesh axes
        inside `nn.logical_axis_rules`, and the same recipe then replicates everything. Outside of
        such rules a box with `sharding_rules` of its own answers the mesh axes that these give.

        Returns:
          The names as a `PartitionSpec`; an empty one for an array without names, None for a
          value that has no shape.

        Raises:
          ValueError: if the annotation has no axis names, such as a layout.
        """
        return _core.nnx_meta_partition_spec(self)

    def get_sharding(self, mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding | None:
        """The sharding on a mesh, which `nn.get_sharding` asks for.

        Args:
          mesh: the mesh; logical names become its axes by the rules around the call.

        Returns:
          The sharding; None for a value that has no shape.
        """
        if self.get_partition_spec() is None:
            return None
        abstract = self.replace(value=jax.ShapeDtypeStruct(self.value.shape, self.value.dtype))
        return jax.sharding.NamedSharding(mesh, super(NNXMeta, abstract).get_partition_spec())

    def to_nnx_variable(self) -> nnx.Variable:
        """The Variable that this box describes.

        Returns:
          A Variable of `var_type` with this value and metadata. No create hook runs.
        """
        return _core.nnx_meta_to_variable(self)
