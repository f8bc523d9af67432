"""NNX classes as Linen classes."""

import copyreg
import dataclasses
import typing as tp
import uuid
import weakref

from flax import nnx

from nnx_wrappers import _core
from nnx_wrappers._to_linen import AugmentFn, MetadataFn, ToLinen


def to_linen_class(
    base_nnx_class: type[nnx.Module],
    base_metadata_fn: MetadataFn | None = _core.to_linen_var,
    base_skip_rng: bool = False,
    nnx_module_augment_fn: AugmentFn | None = None,
    **partial_kwargs: tp.Any,
) -> type[ToLinen]:
    """Makes a Linen class out of an NNX class, to instantiate or to subclass.

    Instances take the keyword arguments of the NNX class directly, or the fields of
    `ToLinen` (`args`, `kwargs`, `skip_rng`, `metadata_fn`, ...).

    Args:
      base_nnx_class: the NNX class.
      base_metadata_fn: the default `metadata_fn`.
      base_skip_rng: the default `skip_rng`.
      nnx_module_augment_fn: the default `nnx_module_augment_fn`.
      **partial_kwargs: default keyword arguments of the NNX class.

    Returns:
      A subclass of `ToLinen` named `<Name>ToLinen`.

    Raises:
      TypeError: if `base_nnx_class` is an instance, or a callable without a name.

    Example::

      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> import nnx_wrappers
      >>> Linear = nnx_wrappers.to_linen_class(nnx.Linear, in_features=2)
      >>> variables = Linear(out_features=3).init(jax.random.key(0), jnp.ones((1, 2)))
      >>> Linear.__name__, variables['params']['kernel'].shape
      ('LinearToLinen', (2, 3))
    """
    fixed = {
        "nnx_class": base_nnx_class,
        "args": (),
        "kwargs": partial_kwargs,
        "metadata_fn": base_metadata_fn,
        "skip_rng": base_skip_rng,
        "nnx_module_augment_fn": nnx_module_augment_fn,
    }
    return _make_class(uuid.uuid4().hex, fixed)


_FIELDS = {field.name for field in dataclasses.fields(ToLinen)}


class _MadeClass(type(ToLinen)):  # type: ignore[misc]
    """The metaclass of the classes that are made here, which pickle cannot find by their names."""


# The classes by token, for pickle.
_made_classes: weakref.WeakValueDictionary[str, type[ToLinen]] = weakref.WeakValueDictionary()


def _make_class(token: str, fixed: dict[str, tp.Any]) -> type[ToLinen]:
    """Makes the class with these fixed fields; `token` identifies it when it is pickled."""
    base_nnx_class = fixed["nnx_class"]

    def __init__(
        self: ToLinen,
        args: tp.Sequence[tp.Any] | None = None,
        kwargs: tp.Mapping[str, tp.Any] | None = None,
        nnx_class: tp.Callable[..., nnx.Module] | None = None,
        skip_rng: bool | None = None,
        metadata_fn: MetadataFn | None = None,
        nnx_module_augment_fn: AugmentFn | None = fixed["nnx_module_augment_fn"],
        **other_kwargs: tp.Any,
    ) -> None:
        linen_kwargs = {k: other_kwargs.pop(k) for k in ("parent", "name") if k in other_kwargs}
        names = {field.name for field in dataclasses.fields(self) if field.init}
        own = {k: other_kwargs.pop(k) for k in names - _FIELDS if k in other_kwargs}
        given = {
            "args": args,
            "kwargs": {**(kwargs or {}), **other_kwargs},
            "nnx_class": nnx_class,
            "skip_rng": skip_rng,
            "metadata_fn": metadata_fn,
        }
        fields = _core.to_linen_partial_fields(fixed, given)
        # None is a value here, and not a missing argument: clones of instances without an augment
        # function pass it.
        fields["nnx_module_augment_fn"] = nnx_module_augment_fn
        # A subclass may have dataclass fields of its own, which are no arguments of the NNX class.
        init = getattr(type(self), "to_linen_dataclass_init", ToLinen.__init__)
        init(self, **fields, **linen_kwargs, **own)

    def __init_subclass__(cls: tp.Any, /, **kwargs: tp.Any) -> None:
        super(made, cls).__init_subclass__(**kwargs)
        cls.to_linen_dataclass_init = cls.__init__
        cls.__init__ = __init__

    body = {
        "__doc__": f"{base_nnx_class.__doc__ or ''}",
        "__module__": __name__,
        "__init_subclass__": classmethod(__init_subclass__),
    }
    made: tp.Any = _MadeClass(_core.to_linen_class_name(base_nnx_class), (ToLinen,), body)
    made.__init__ = __init__
    made.module_class = base_nnx_class
    made.to_linen_made = token, fixed
    _made_classes[token] = made
    return made


def _remake(token: str, fixed: dict[str, tp.Any]) -> type[ToLinen]:
    """The class that was pickled. In another process it is made once, with the same fields."""
    return _made_classes.get(token) or _make_class(token, fixed)


def _reduce(made: tp.Any) -> str | tuple[tp.Any, ...]:
    """The reduction by which pickle saves such a class; a subclass is saved by its name."""
    if "to_linen_made" not in vars(made):
        return str(made.__qualname__)
    return _remake, made.to_linen_made


copyreg.pickle(_MadeClass, _reduce)
