"""The Linen scope that a ToNNX runs its module in."""

import typing as tp

from flax import core, linen

from nnx_wrappers import _core


class CheckedScope(core.Scope):
    """A scope that remembers which parameters have passed Flax's shape check."""

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
        scope = super().push(name, prefix, reuse)
        scope.__class__ = CheckedScope
        return scope

    def rewound(self, rewind_rngs: bool = False) -> core.Scope:
        scope = super().rewound(rewind_rngs)
        scope.__class__ = CheckedScope
        return scope


class ScopedClone:
    """What `linen.apply` clones: the module, into a scope made a `CheckedScope`."""

    def __init__(self, module: linen.Module, initializing: bool) -> None:
        self.module = module
        self.initializing = initializing

    def clone(self, *, parent: core.Scope, **kwargs: tp.Any) -> linen.Module:
        parent.__class__ = CheckedScope
        if self.initializing:
            parent.flags = parent.flags.copy({"initializing": True})
        return self.module.clone(parent=parent, **kwargs)
