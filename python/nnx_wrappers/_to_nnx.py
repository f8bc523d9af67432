"""A Linen module as an NNX module."""

import collections
import functools
import typing as tp
import warnings

import jax
from flax import linen, nnx

from nnx_wrappers import _core


class MethodAndVariables(collections.UserDict[str, tp.Any]):
    """A Linen method that can be called, and the variables of a submodule of the same name.

    Linen makes such a submodule for a method with `nn.compact_name_scope`.
    """

    def __init__(self, variables: dict[str, tp.Any], method: tp.Callable[..., tp.Any]) -> None:
        self.data = variables
        self._method = method

    def __call__(self, *args: tp.Any, **kwargs: tp.Any) -> tp.Any:
        return self._method(*args, **kwargs)


class ToNNX(nnx.Module, **_core.to_nnx_class_keywords()):
    """Uses a Linen module as an NNX module that owns its variables.

    Linen makes variables from inputs, so call `lazy_init` with sample inputs once.
    After that a call runs the Linen module on the variables in this module, and stores
    those that it has changed. Methods of the Linen class are attributes.

    Args:
      module: an instance of a Linen module, or an object that behaves as one (with
        `init_with_output` and `apply`).
      rngs: the streams from which the module draws keys. They are forked. A single key
        becomes the stream 'params'.

    Attributes:
      to_nnx__module: the Linen module. `module` is a deprecated name of it.
      to_nnx__rngs: the forked streams, an `nnx.Rngs`, or None. `rngs` is a deprecated
        name of it.

    With Flax 0.11.2 and older the attributes are named `module` and `rngs`, `to_nnx__module`
    and `to_nnx__rngs` are other names of them, and the streams are not forked, as in Flax's
    own class there: so states have the same paths and values.

    Raises:
      TypeError: for a Linen class, an NNX module, or other kinds of rngs.

    Example::

      >>> import jax.numpy as jnp
      >>> from flax import linen as nn, nnx
      >>> import nnx_wrappers
      >>> x = jnp.ones((1, 32))
      >>> model = nnx_wrappers.ToNNX(nn.Dense(64), rngs=nnx.Rngs(0)).lazy_init(x)
      >>> model(x).shape, model.kernel.shape
      ((1, 64), (32, 64))
    """

    def __init__(self, module: linen.Module, rngs: nnx.Rngs | jax.Array | None = None) -> None:
        _core.to_nnx_init(self, module, rngs)

    if _core.to_nnx_attributes() == ("module", "rngs"):  # Flax 0.11.2 and older

        @property
        def to_nnx__rngs(self) -> nnx.Rngs | None:
            """The streams."""
            return self.rngs

        @property
        def to_nnx__module(self) -> linen.Module:
            """The Linen module."""
            return self.module

    else:

        @property
        def rngs(self) -> nnx.Rngs | None:
            """Deprecated name of `to_nnx__rngs`."""
            warnings.warn(
                "`ToNNX.rngs` is deprecated; use `to_nnx__rngs`.", DeprecationWarning, stacklevel=2
            )
            return self.to_nnx__rngs

        @property
        def module(self) -> linen.Module:
            """Deprecated name of `to_nnx__module`."""
            warnings.warn(
                "`ToNNX.module` is deprecated; use `to_nnx__module`.",
                DeprecationWarning,
                stacklevel=2,
            )
            return self.to_nnx__module

    def lazy_init(self, /, *args: tp.Any, **kwargs: tp.Any) -> "ToNNX":
        """Makes the variables from sample inputs.

        Args:
          *args: sample inputs. Their shapes and dtypes decide those of the variables.
          **kwargs: sample inputs, by name.

        Returns:
          This module.

        Raises:
          ValueError: if a Linen variable has a name that an NNX attribute cannot have.
          flax.errors.InvalidRngError: if the Linen module needs a key and there are no
            `rngs`. If anything is raised, nothing has changed.
        """
        return _core.lazy_init(self, *args, **kwargs)

    def release_rngs(self) -> None:
        """Drops the forked streams, so that they are no longer part of the state.

        Only after `lazy_init`, and for a module that draws no keys when it is called.
        """
        _core.to_nnx_release_rngs(self)

    def get_layers(self) -> list[tp.Any]:
        """The decoder layers among the attributes, in execution order, each once.

        Returns:
          The values of the attributes named `layers`, `layers_0`, `dense_layers`,
          `moe_layers`, `scanned_blocks` and the like; an empty list if there is none.
        """
        return _core.to_nnx_get_layers(self)

    def __call__(
        self,
        /,
        *args: tp.Any,
        rngs: nnx.Rngs | jax.Array | tp.Mapping[str, jax.Array] | None = None,
        method: tp.Callable[..., tp.Any] | str | None = None,
        mutable: tp.Any = None,
        **kwargs: tp.Any,
    ) -> tp.Any:
        """Runs the Linen module.

        Args:
          *args: passed on.
          rngs: keys for this call instead of the module's own: an `nnx.Rngs`, one key (the
            stream 'params'), or a dict of keys.
          method: the Linen method to run: its name, or a function of the Linen module.
          mutable: the collections that may change, as a Linen filter. By default the
            enclosing Linen scope's; outside Linen every collection of the module but
            'params', 'intermediates' and 'perturbations', and none whose variables may
            not change in the present trace.
          **kwargs: passed on.

        Returns:
          The output, without updates, which are stored in this module. A call that fails
          leaves the module and its RNG counts as they were.

        Raises:
          NotInitializedError: before `lazy_init`.
          ValueError: if an attribute is neither the Variable that `lazy_init` made nor an
            array of its shape and dtype.
          TypeError: for rngs of another kind, or a method that cannot be called.
          flax.errors.ModifyScopeVariableError: if the call changes a collection that may
            not change.
          flax.errors.TraceContextError: if the call writes a Variable, or draws a key, in
            a trace that closes over this module.
        """
        return _core.to_nnx_call(self, args, kwargs, rngs, method, mutable)

    def _setattr(self, name: str, value: tp.Any) -> None:
        super()._setattr(name, _core.to_nnx_attribute_value(value))

    def __getattribute__(self, name: str) -> tp.Any:
        value = super().__getattribute__(name)
        if type(value) is dict and not name.startswith("_"):
            method = getattr(type(self.to_nnx__module), name, None)
            if callable(method):
                return MethodAndVariables(value, functools.partial(self.__call__, method=method))
        return value

    def __getattr__(self, name: str) -> tp.Any:
        return _core.to_nnx_attribute(self, name)
