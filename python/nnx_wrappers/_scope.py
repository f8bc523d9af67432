"""The Linen scope that a ToNNX runs its module in."""

import typing as tp

import jax
from flax import core, errors, linen

from nnx_wrappers import _core


class LazyKey:
    """The next key of a stream, drawn when it is asked for."""

    __slots__ = ("count", "drawn", "key", "made_in")

    def __init__(self, key: jax.Array, count: jax.Array, made_in: tp.Any) -> None:
        self.key = key
        self.count = count
        self.made_in = made_in
        self.drawn: jax.Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.key.shape

    @property
    def dtype(self) -> tp.Any:
        return self.key.dtype


class HeldBackKeys(dict[str, tp.Any]):
    """The keys of a scope without those of streams that may not advance in this trace.

    Asked for one of them it raises an error, so that nothing is drawn in silence.
    """

    def __init__(self, rngs: dict[str, tp.Any], names: frozenset[str], remedy: str) -> None:
        super().__init__(rngs)
        self._names = names
        self._remedy = remedy

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __missing__(self, name: str) -> tp.NoReturn:
        if name not in self._names:
            raise KeyError(name)
        raise errors.TraceContextError(f"ToNNX, stream '{name}': {self._remedy}")


class CheckedScope(core.Scope):
    """A scope that remembers which parameters have passed Flax's shape check.

    Its keys may be put off: whoever looks at `rngs` draws them.
    """

    @property
    def rngs(self) -> tp.Any:
        return _core.scope_rngs(self)

    @rngs.setter
    def rngs(self, value: tp.Any) -> None:
        self.__dict__["rngs"] = value

    def param(
        self,
        name: str,
        init_fn: tp.Callable[..., tp.Any],
        *init_args: tp.Any,
        unbox: bool = True,
        **init_kwargs: tp.Any,
    ) -> tp.Any:
        return _core.checked_param(self, name, init_fn, init_args, unbox, init_kwargs)

    def push(self, name: str | None = None, prefix: str = "", reuse: bool = False) -> core.Scope:
        return _core.scope_pushed(self, name, prefix, reuse)

    def rewound(self, rewind_rngs: bool = False) -> core.Scope:
        return _core.scope_rewound(self, rewind_rngs)

    def has_rng(self, name: str) -> bool:
        return name in self.__dict__["rngs"]


_core.hash_in_c(CheckedScope)


class ScopedClone:
    """What `linen.apply` clones: the module, into a scope made a `CheckedScope`."""

    def __init__(self, module: linen.Module, initializing: bool) -> None:
        self.module = module
        self.initializing = initializing

    def clone(self, *, parent: core.Scope, **kwargs: tp.Any) -> linen.Module:
        parent.__class__ = CheckedScope
        if self.initializing:
            parent.flags = parent.flags.copy({"initializing": True})
        deep = _core.to_linen_deep_clone(self.module, kwargs.pop("_deep_clone", False), kwargs)
        return self.module.clone(parent=parent, _deep_clone=deep, **kwargs)
