"""Where ours is meant to differ from Flax's bridge, and what it has to equal instead."""

import dataclasses
import typing as tp

import flax
import jax
from flax import nnx

from . import modes
from .case import Case
from .modes import Mode

Instead = tp.Callable[[Case, Mode], tp.Any]


@dataclasses.dataclass(frozen=True)
class Difference:
    """A difference: why, and Flax's result under the conditions where it has one."""

    reason: str
    instead: Instead


def _with_default_stream(case: Case, mode: Mode) -> tp.Any:
    """One stream for everything, by the only name that Flax accepts for it."""
    del mode
    return modes.init_default_stream(nnx.bridge, case)


def _with_one_name_for_arrays(case: Case, mode: Mode) -> tp.Any:
    """Flax's result, with the name of the tracer class taken back."""

    def rename(tree: tp.Any) -> tp.Any:
        if not isinstance(tree, dict) or "DynamicJaxprTracer" not in tree:
            return tree
        rest = {name: below for name, below in tree.items() if name != "DynamicJaxprTracer"}
        return {**rest, "ArrayImpl": tree["DynamicJaxprTracer"]}

    return tuple(rename(part) for part in mode(nnx.bridge, case))


def _with_new_arguments(case: Case, mode: Mode) -> tp.Any:
    """Flax's result for a class that makes the modules among its arguments itself."""

    def make(**kwargs: tp.Any) -> nnx.Module:
        return case.layer(*case.new_args(), **kwargs)

    return mode(nnx.bridge, dataclasses.replace(case, args=(), via=make))


def _without_what_was_sown(case: Case, mode: Mode) -> tp.Any:
    """A second step that is given only what the module has from its constructor."""
    del mode
    variables = modes.variables_of(case)
    keys = {"dropout": jax.random.key(7)}
    out, updates = modes.apply(nnx.bridge, case, variables, rngs=keys, mutable=True)
    known = {name: updates[name] for name in updates if name in variables}
    given = {**variables, **known}
    out_again, updates_again = modes.apply(nnx.bridge, case, given, rngs=keys, mutable=True)
    return out, (out_again, updates_again)


_FALLBACK = Difference(
    "a stream that is missing at init falls back to 'params', as in Linen; Flax raises",
    _with_default_stream,
)
_TRACED_ARRAYS = Difference(
    "raw arrays are in 'ArrayImpl' under tracing too; Flax takes the tracer's class name",
    _with_one_name_for_arrays,
)
_CLONED_ARGUMENTS = Difference(
    "modules among the arguments are cloned; Flax changes them, which tracing forbids",
    _with_new_arguments,
)
_SOWN_VALUES = Difference(
    "values at paths that the constructor does not make are not used; Flax raises for tuples",
    _without_what_was_sown,
)

_HOLDS_ARRAYS = ["Pytree-subclass"]
if flax.__version__ == "0.12.8":  # its WeightNorm keeps the scales in no Variable
    _HOLDS_ARRAYS.append("WeightNorm")

DIFFERENCES: dict[tuple[str, str], Difference] = {
    **{
        (name, "init_params_only"): _FALLBACK
        for name in (
            "MultiHeadAttention-dropout",
            "SimpleCell-rngs",
            "RNN",
            "RNN-reversed",
            "RNN-instance",
            "Bidirectional",
            "Dropout",
            "Dropout-eval",
            "Dropout-stream",
            "Rngs-held",
            "RngStream-held",
            "Sequential",
            "bridge.Scope",
            "RNNCellBase-subclass",
        )
    },
    **{
        (name, mode): _TRACED_ARRAYS
        for name in _HOLDS_ARRAYS
        for mode in ("init_jit", "init_eval_shape", "apply_jit", "apply_eval_shape")
    },
    **{
        (name, mode): _CLONED_ARGUMENTS
        for name in ("RNN-instance", "Sequential-instance")
        for mode in ("init_eval_shape", "apply_eval_shape")
    },
    ("MultiHeadAttention-sow", "second_step"): _SOWN_VALUES,
    ("Module-subclass", "second_step"): _SOWN_VALUES,
}
