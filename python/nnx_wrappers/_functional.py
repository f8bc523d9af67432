"""An NNX class as a pair of pure functions."""

import dataclasses
import typing as tp

from flax import nnx

from nnx_wrappers import _core

M = tp.TypeVar("M", bound=nnx.Module)


@dataclasses.dataclass
class Functional(tp.Generic[M]):
    """An NNX module as two pure functions: `init` returns its State, and `apply` takes it.

    `functional` makes it.

    Attributes:
      module_type: the NNX class.
      graphdef: the static part, known after `init`.
      args: positional arguments of the class.
      kwargs: keyword arguments of the class.
    """

    module_type: type[M]
    graphdef: nnx.GraphDef[M] | None
    args: tuple[tp.Any, ...]
    kwargs: dict[str, tp.Any]

    def init(self, *, rngs: nnx.Rngs | None = None) -> nnx.State:
        """Constructs the module and remembers its graphdef.

        Args:
          rngs: the streams that the class takes; None if it takes none.

        Returns:
          The State of the module, its variables of the shapes that the class gives them.

        Raises:
          TypeError: if `functional` was given something other than an NNX class.
        """
        return _core.functional_init(self, rngs)

    def apply(self, *states: tp.Any) -> tp.Any:
        """The module with these States, as a function of its inputs.

        Args:
          *states: the State that `init` returned, whole or in the parts that `nnx.split` makes.

        Returns:
          A function. Called like the module, or by the name of a method, it returns
          `(output, (graphdef, state))` with the new State.

        Raises:
          ValueError: before `init`.
        """
        return _core.functional_apply(self, states)


def functional(cls: type[M]) -> tp.Callable[..., Functional[M]]:
    """Makes the constructor of a `Functional` of an NNX class.

    Args:
      cls: the NNX class.

    Returns:
      A function that takes the arguments of the class except `rngs`, and returns a
      `Functional`.

    Example::

      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import nnx_wrappers
      >>> linear = nnx_wrappers.functional(nnx.Linear)(2, 3)
      >>> state = linear.init(rngs=nnx.Rngs(0))
      >>> y, (graphdef, state) = linear.apply(state)(jnp.ones((1, 2)))
      >>> y.shape
      (1, 3)
    """

    def constructor(*args: tp.Any, **kwargs: tp.Any) -> Functional[M]:
        return Functional(cls, None, args, kwargs)

    return constructor
