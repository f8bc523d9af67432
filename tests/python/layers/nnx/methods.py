"""The public methods of the classes, other than `__call__`, and the ways to call them."""

import dataclasses
import functools
import typing as tp

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from flax.core import FrozenDict

from ..compare import Bridge
from . import hosts
from .case import INIT_KEYS, Case
from .catalogue import SCORES, VALUES, carry, tokens, x2, x3x4

Inputs = tuple[tp.Any, ...] | tp.Callable[[], tuple[tp.Any, ...]]


@dataclasses.dataclass(frozen=True, eq=False)
class Method:
    """One method of the class of a case, with its arguments; a function makes new ones.

    `below` is True if Linen refuses the variables unless a parent holds the module: it
    takes neither integer keys nor a 'params' in 'params' at the root.
    """

    case: Case
    name: str
    inputs: Inputs = ()
    options: tp.Mapping[str, tp.Any] = FrozenDict({})
    below: bool = False

    @property
    def id(self) -> str:
        """The name in the test report."""
        return f"{self.case.name}.{self.name}"

    def new_inputs(self) -> tuple[tp.Any, ...]:
        """The arguments, where they hold modules new ones each time."""
        return self.inputs() if callable(self.inputs) else self.inputs


def _own(layer: type, via: type) -> Case:
    return Case(layer, via=via)


def _metric(layer: type, via: type | None = None) -> Case:
    return Case(layer, via=via, skip_rng=True)


def _shape_and_stream() -> tuple[tp.Any, ...]:
    return (1, 2), nnx.Rngs(0)


def _model() -> tuple[nnx.Module]:
    return (nnx.Linear(2, 3, rngs=nnx.Rngs(1)),)


def _model_and_grads() -> tuple[nnx.Module, nnx.State]:
    (model,) = _model()
    return model, jax.tree.map(jnp.ones_like, nnx.state(model))


_CELLS = (nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.SimpleCell, nnx.GRUCell)
_ATTENTION = Case(nnx.MultiHeadAttention, (2, 4), {"decode": False})
_PROBED = _own(nnx.Module, hosts.Probed)
_LIST = Case(nnx.List, lambda: ([jnp.zeros(2)],), skip_rng=True)
_RNGS = Case(nnx.Rngs, (0,), {"noise": 1}, skip_rng=True)
_STREAM = Case(nnx.RngStream, (0,), {"tag": "noise"}, skip_rng=True)
_BRIDGE = Case(nnx.bridge.Module, (3,), via=hosts.BridgeModule)
_MEAN, _COUNT = _metric(nnx.metrics.Average), _metric(nnx.Metric, hosts.Count)
_WELFORD, _METRICS = _metric(nnx.metrics.Welford), _metric(nnx.MultiMetric, hosts.Metrics)

METHODS = (
    Method(Case(nnx.Embed, (4, 2)), "attend", (x2,)),
    Method(Case(nnx.Embed, (4, 2)), "__call__", (tokens,)),
    Method(Case(nnx.BatchNorm, (2,)), "set_view", options={"use_running_average": True}),
    Method(Case(nnx.Dropout, (0.5,)), "set_view", options={"deterministic": True}),
    Method(_ATTENTION, "init_cache", ((1, 3, 4),)),
    Method(_ATTENTION, "set_view", options={"deterministic": True}),
    Method(_ATTENTION, "__call__", (x3x4, x3x4 + 1.0)),
    *(Method(Case(cell, (2, 3)), "initialize_carry", _shape_and_stream) for cell in _CELLS),
    Method(_own(nnx.RNNCellBase, hosts.DecayRNN), "__call__", (x2[:, None],)),
    Method(Case(nnx.RNNCellBase, (2, 3), via=hosts.DecayCell), "initialize_carry", ((1, 2),)),
    Method(Case(nnx.RNNCellBase, (2, 3), via=hosts.DecayCell), "__call__", (carry, x2)),
    Method(_MEAN, "update", options=VALUES),
    Method(_MEAN, "compute"),
    Method(_MEAN, "reset"),
    Method(_WELFORD, "update", options=VALUES),
    Method(_WELFORD, "compute"),
    Method(_WELFORD, "reset"),
    Method(_metric(nnx.metrics.Accuracy), "update", options=SCORES),
    Method(_COUNT, "update", options=VALUES),
    Method(_COUNT, "compute"),
    Method(_COUNT, "reset"),
    Method(_COUNT, "split"),
    Method(_METRICS, "update", options=VALUES),
    Method(_METRICS, "compute"),
    Method(_METRICS, "reset"),
    *(
        Method(_own(nnx.EMA, hosts.OwnAverage), name, _model, below=True)
        for name in ("update", "apply_to")
        if hasattr(nnx, "EMA")
    ),
    Method(_own(nnx.Optimizer, hosts.OwnOptimizer), "update", _model_and_grads),
    Method(
        _own(nnx.ModelAndOptimizer, hosts.OwnTraining),
        "update",
        lambda: _model_and_grads()[1:],
    ),
    Method(_LIST, "append", (x2,), below=True),
    Method(_LIST, "insert", (0, x2), below=True),
    Method(_LIST, "__getitem__", (0,), below=True),
    Method(_LIST, "__len__", below=True),
    Method(Case(nnx.Dict, kwargs={"relu": nnx.relu}, skip_rng=True), "__getitem__", ("relu",)),
    Method(_RNGS, "__call__"),
    Method(_RNGS, "normal", ((2,),)),
    Method(_RNGS, "split", (2,)),
    Method(_RNGS, "broadcast", (2,)),
    Method(_RNGS, "fork"),
    Method(_STREAM, "__call__"),
    Method(_STREAM, "uniform", ((2,),)),
    Method(_STREAM, "split", (2,)),
    Method(_STREAM, "broadcast", (2,)),
    Method(_STREAM, "fork"),
    Method(_PROBED, "evaluate", (x2,)),
    Method(_PROBED, "train"),
    Method(_PROBED, "eval"),
    Method(_PROBED, "set_attributes", options={"deterministic": True}),
    Method(_PROBED, "sow", (nnx.Intermediate, "seen", x2)),
    Method(_PROBED, "perturb", ("probe", x2)),
    Method(Case(nnx.bridge.Scope, kwargs={"mutable": False}), "copy"),
    Method(_own(nnx.bridge.ToNNX, hosts.OwnLinen), "__call__", (x2,)),
    Method(_own(nnx.bridge.ToNNX, hosts.OwnLinen), "lazy_init", (x2,)),
    Method(_BRIDGE, "set_attr_priority", ("kernel", nnx.bridge.AttrPriority.HIGH)),
    Method(_BRIDGE, "is_initializing"),
    Method(_BRIDGE, "apply", ({}, x2)),
    Method(_BRIDGE, "init", (None, x2)),
    Method(_BRIDGE, "init_with_output", (None, x2)),
    Method(_BRIDGE, "make_rng"),
    Method(_BRIDGE, "param", ("p", jax.nn.initializers.ones, (2,))),
    Method(_BRIDGE, "variable", ("params", "p", jnp.ones, (2,))),
)

# Methods that raise in Flax too: a module of flax.nnx.bridge has no scope of its own.
RAISES = {"bridge.Module.make_rng", "bridge.Module.param", "bridge.Module.variable"}

_INITIALIZERS = frozenset(
    {"delta_orthogonal", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform"}
    | {"kaiming_normal", "kaiming_uniform", "lecun_normal", "lecun_uniform"}
    | {"variance_scaling", "xavier_normal", "xavier_uniform"}
)

# Public functions that are not compared, with the reason.
UNCOMPARED: dict[type, dict[frozenset[str], str]] = {
    nnx.Module: {frozenset({"iter_modules", "iter_children"}): "an iterator over live modules"},
    nnx.Rngs: {
        frozenset({"items"}): "an iterator over live streams",
        _INITIALIZERS: "gives a function, which draws only outside",
    },
    nnx.RngStream: {_INITIALIZERS: "gives a function, which draws only outside"},
    nnx.Bidirectional: {frozenset({"merge_fn"}): "the default of a field, no method"},
}


@functools.cache
def variables_of(method: Method) -> tp.Any:
    """Variables as Flax's own bridge makes them."""
    return method.case.wrap(nnx.bridge).init(INIT_KEYS, nnx_method="__repr__")


def _apply(bridge: Bridge, called: Method, **how: tp.Any) -> tp.Any:
    return called.case.wrap(bridge).apply(
        variables_of(called), *called.new_inputs(), mutable=True, **called.options, **how
    )


def at_init(bridge: Bridge, method: Method) -> tp.Any:
    return method.case.wrap(bridge).init_with_output(
        INIT_KEYS, *method.new_inputs(), nnx_method=method.name, **method.options
    )


def nnx_method_name(bridge: Bridge, method: Method) -> tp.Any:
    return _apply(bridge, method, nnx_method=method.name)


def nnx_method_function(bridge: Bridge, method: Method) -> tp.Any:
    return _apply(bridge, method, nnx_method=getattr(method.case.nnx_class, method.name))


def method_name(bridge: Bridge, method: Method) -> tp.Any:
    return _apply(bridge, method, method=method.name)


def method_function(bridge: Bridge, method: Method) -> tp.Any:
    def call(module: nn.Module, *args: tp.Any, **kwargs: tp.Any) -> tp.Any:
        return getattr(module, method.name)(*args, **kwargs)

    return _apply(bridge, method, method=call)


def bound(bridge: Bridge, method: Method) -> tp.Any:
    module = method.case.wrap(bridge).bind(variables_of(method), mutable=True)
    out = getattr(module, method.name)(*method.new_inputs(), **method.options)
    return out, module.variables


class _Parent(nn.Module):
    bridge: Bridge
    method: Method

    @nn.compact
    def __call__(self, by_attribute: bool) -> tp.Any:
        method = self.method
        layer = method.case.wrap(self.bridge, name="layer")
        if by_attribute:
            return getattr(layer, method.name)(*method.new_inputs(), **method.options)
        return layer(*method.new_inputs(), nnx_method=method.name, **method.options)


def _in_a_parent(bridge: Bridge, method: Method, by_attribute: bool) -> tp.Any:
    parent = _Parent(bridge, method)
    out, variables = parent.init_with_output(INIT_KEYS, by_attribute)
    return out, variables, parent.apply(variables, by_attribute, mutable=True)


def in_a_parent(bridge: Bridge, method: Method) -> tp.Any:
    return _in_a_parent(bridge, method, by_attribute=False)


def attribute_in_a_parent(bridge: Bridge, method: Method) -> tp.Any:
    return _in_a_parent(bridge, method, by_attribute=True)


# Linen's own attributes come first: `layer.sow` is Linen's.
_LINEN_NAMES = frozenset(dir(nn.Module)) - {"__call__"}


def ways_of(method: Method) -> tuple[tp.Callable[[Bridge, Method], tp.Any], ...]:
    """The ways in which a method can be called."""
    ways = [at_init, in_a_parent]
    if not method.below:
        ways += [nnx_method_name, nnx_method_function]
    if method.name not in _LINEN_NAMES:
        ways.append(attribute_in_a_parent)
        if not method.below:
            ways += [method_function, bound]
    if method.name == "__call__":
        ways.append(method_name)
    return tuple(ways)
