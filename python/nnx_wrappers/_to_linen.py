"""An NNX class as a Linen module."""

import inspect
import typing as tp

from flax import linen, nnx
from flax.core import FrozenDict

from nnx_wrappers import _core

MetadataFn = tp.Callable[[nnx.Variable], tp.Any]
AugmentFn = tp.Callable[[nnx.Module, str | None], nnx.Module]


class ToLinen(linen.Module):
    """Uses an NNX class as a Linen module with `init`, `apply` and collections.

    The state of the NNX module is kept as Linen variables: Variables of type
    `nnx.Param` in 'params', `nnx.BatchStat` in 'batch_stats', and so on. Methods of
    the NNX class, and the entries of `kwargs`, are attributes.

    Args:
      nnx_class: the NNX class, or a callable that makes an NNX module.
      args: positional arguments of the class. NNX objects among them are cloned for
        each call.
      kwargs: keyword arguments of the class, without `rngs`.
      skip_rng: True if the class takes no `rngs`.
      metadata_fn: turns a Variable into a Linen leaf; None stores raw values.
      nnx_module_augment_fn: `(module, name) -> module`, changes the module that the class
        has made, before variables are loaded into it.
      parent: Linen's own field.
      name: the name of this module in its parent, as of any Linen module.

    Raises:
      TypeError: if `nnx_class` is an instance. In a call: if another field is of the
        wrong kind.

    Example::

      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> import nnx_wrappers
      >>> x = jnp.ones((1, 32))
      >>> model = nnx_wrappers.ToLinen(nnx.Linear, args=(32, 64))
      >>> y, variables = model.init_with_output(jax.random.key(0), x)
      >>> y.shape, variables['params']['kernel'].shape
      ((1, 64), (32, 64))
    """

    nnx_class: tp.Callable[..., nnx.Module]
    args: tp.Sequence[tp.Any] = ()
    kwargs: tp.Mapping[str, tp.Any] = FrozenDict({})
    skip_rng: bool = False
    metadata_fn: MetadataFn | None = _core.to_linen_var
    nnx_module_augment_fn: AugmentFn | None = None

    def __post_init__(self) -> None:
        _core.to_linen_check_class(self.nnx_class)
        super().__post_init__()

    @linen.compact
    def __call__(
        self,
        *args: tp.Any,
        nnx_method: tp.Callable[..., tp.Any] | str | None = None,
        **kwargs: tp.Any,
    ) -> tp.Any:
        """Runs `nnx_method` (by default `__call__`) of the NNX module.

        Linen's `init` and `apply` call it; so does a Linen module that holds this one.

        Args:
          *args: passed on.
          nnx_method: the name of a method of the NNX class, or a function of the module.
          **kwargs: passed on.

        Returns:
          What the method returns. Variables have the shapes that the constructor gives them.

        Raises:
          AttributeError: if the class has no such method.
          TypeError: if the method cannot be called, or the class makes no NNX module.
          ValueError: if the variables contradict each other or the module.

        Warns:
          UserWarning: the variables have paths that the module does not have, or lack
            parameters of it.
        """
        return _core.to_linen_call(self, nnx_method, args, kwargs)

    def __getattr__(self, name: str) -> tp.Any:
        for found in _core.to_linen_attribute(self, name):
            return found
        return super().__getattr__(name)

    @linen.nowrap
    def clone(self, *, _deep_clone: tp.Any = False, **kwargs: tp.Any) -> "ToLinen":
        # A deep clone searches the fields for Linen modules, and most have none.
        deep = _core.to_linen_deep_clone(self, _deep_clone, kwargs)
        return super().clone(_deep_clone=deep, **kwargs)

    @linen.nowrap
    def _register_submodules(self, name: str, val: tp.Any) -> None:
        # Linen calls this twice for each field in a call, and for most there is nothing to do.
        if not _core.to_linen_is_inert(self, name, val):
            super()._register_submodules(name, val)

    def _update_variables(self, module: nnx.Module) -> None:
        _core.to_linen_update_variables(self, module)


# Linen asks for the signature in every `apply`. Finding it would take longer than the bridge.
ToLinen.__call__.__signature__ = inspect.signature(ToLinen.__call__)  # type: ignore[attr-defined]


def to_linen(
    nnx_class: tp.Callable[..., nnx.Module],
    *args: tp.Any,
    metadata_fn: MetadataFn | None = _core.to_linen_var,
    name: str | None = None,
    skip_rng: bool = False,
    abstract_init: bool = True,
    **kwargs: tp.Any,
) -> ToLinen:
    """Makes a `ToLinen` from the arguments of the NNX class itself.

    Args:
      nnx_class: the NNX class.
      *args: positional arguments of the class.
      metadata_fn: as for `ToLinen`.
      name: the Linen module's name.
      skip_rng: as for `ToLinen`.
      abstract_init: accepted for compatibility; it has no effect, as in Flax.
      **kwargs: keyword arguments of the class, without `rngs`.

    Returns:
      A `ToLinen`.

    Raises:
      TypeError: if `nnx_class` is an instance.

    Example::

      >>> from flax import nnx
      >>> import nnx_wrappers
      >>> nnx_wrappers.to_linen(nnx.Linear, 32, out_features=64).out_features
      64
    """
    del abstract_init
    return ToLinen(
        nnx_class,
        args=args,
        kwargs=FrozenDict(kwargs),
        metadata_fn=metadata_fn,
        skip_rng=skip_rng,
        name=name,
    )
