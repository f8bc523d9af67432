"""The scope in which a ToNNX runs its Linen module, and the keys that it has."""

import typing as tp

import jax
from flax import core, errors, linen

from nnx_wrappers import _core


class LazyKey:
    """The next key of a stream, computed when it is used.

    `made_in` is the TraceState of the trace that it was made in; None if the key is held back,
    since its stream may not advance in that trace. `drawn` is the computed key.
    """

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
    """The keys of a scope, without those of streams that may not advance in this trace.

    Reading one of these raises an error. `names` are the names of all streams.
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

    It may be given lazy keys, which reading `rngs` draws.
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


class ModuleStack(list[tp.Any]):
    """Linen's stack of the modules whose methods run, while a ToNNX runs its module.

    A module that comes onto it in a scope that a lifted transformation (`nn.scan`) made gets a
    `CheckedScope`, as it has outside of transformations. `root` is the outermost scope.
    """

    root: core.Scope | None = None

    def append(self, module: linen.Module | None) -> None:
        _core.adopt_scope_of(module, self.root)
        super().append(module)


class ScopedClone:
    """Stands for a Linen module in `linen.apply`, which clones it into a scope that it makes.

    `clone` turns the scope into a `CheckedScope` and clones the module into it. The scope is the
    root of `stack`, if there is one.
    """

    def __init__(self, module: linen.Module, initializing: bool, stack: ModuleStack | None) -> None:
        self.module = module
        self.initializing = initializing
        self.stack = stack

    def clone(self, *, parent: core.Scope, **kwargs: tp.Any) -> linen.Module:
        parent.__class__ = CheckedScope
        if self.stack is not None:
            self.stack.root = parent
        if self.initializing:
            parent.flags = parent.flags.copy({"initializing": True})
        deep = _core.to_linen_deep_clone(self.module, kwargs.pop("_deep_clone", False), kwargs)
        return self.module.clone(parent=parent, _deep_clone=deep, **kwargs)
