"""After a call into Python failed, whichever it was, nothing has changed and the next call works.

Each case is run again and again, and each time another call fails: the first, the second,
and so on. `make faults` runs this file on a build where every call of the extension into
CPython counts; NNX_WRAPPERS_LONG=1 tries all of them.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen.module
import flax.nnx.bridge.module
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

import nnx_wrappers as nw
from support.faults import EVERY_CALL_COUNTS, is_injected, make_counter, numbers
from support.oracle import describe, state_of

X = jnp.ones((2, 3))
KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
MOST = 20  # faults of a case, in the short form


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=False)(nn.Dense(3)(x))
        return nn.Dropout(0.5, deterministic=False)(x)


class Nnx(nnx.Module):
    def __init__(self, features, rngs):
        self.layer = nnx.Linear(3, features, rngs=rngs)
        self.norm = nnx.BatchNorm(features, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.rows = nnx.List([nnx.Param(jnp.ones(2))])

    def __call__(self, x):
        return self.dropout(self.norm(self.layer(x))) + self.rows[0].sum()


class Graph(nnx.Module):
    """Wrappers in a cyclic graph that a call changes in every way."""

    def __init__(self, rngs):
        self.first = nw.ToNNX(nn.Dense(3), rngs=rngs)
        self.others = nnx.List([nw.ToNNX(Linen(), rngs=rngs)])
        self.values = nnx.Dict(x=nnx.Param(jnp.ones(2)))
        self.parent = nnx.data([self])

    def __call__(self, x):
        self.values["y"] = nnx.Param(jnp.ones(2))
        self.values.x[...] = self.values.x[...] + 1
        self.parent.append(3)
        return self.others[0](self.first(x))


class Case(NamedTuple):
    call: Callable[[], Any]
    state: Callable[[], Any]


def state(module):
    flags = []
    for _, node in nnx.iter_graph(module, graph=True):
        if isinstance(node, nnx.Pytree):
            flags.append(
                (node._pytree__state.initializing, {k: id(v) for k, v in vars(node).items()})
            )
    return describe(state_of(module)), flags


def to_nnx_call():
    model = nw.ToNNX(Linen(), rngs=nnx.Rngs(0, dropout=1)).lazy_init(X)
    return Case(lambda: model(X), lambda: state(model))


def lazy_init():
    model = nw.ToNNX(Linen(), rngs=nnx.Rngs(0, dropout=1))
    return Case(lambda: state_of(nw.lazy_init(model, X)), lambda: state(model))


def lazy_init_of_a_graph():
    model = Graph(nnx.Rngs(0, dropout=1))
    return Case(lambda: state_of(nw.lazy_init(model, X)), lambda: state(model))


MODEL = nw.ToLinen(Nnx, args=(4,))


def to_linen_init():
    return Case(lambda: MODEL.init(KEYS, X), lambda: None)


def apply_case(variables, warm):
    def call():
        return MODEL.apply(variables, X, rngs={"dropout": KEYS["dropout"]}, mutable=["batch_stats"])

    nw.clear_caches()
    if warm:
        call()
    return Case(call, lambda: describe(variables))


def to_linen_apply():
    return apply_case(MODEL.init(KEYS, X), warm=True)


def to_linen_apply_without_statistics():
    return apply_case({"params": MODEL.init(KEYS, X)["params"]}, warm=True)


def to_linen_apply_that_builds_a_plan():
    return apply_case(MODEL.init(KEYS, X), warm=False)


def convert(variables):
    return nw.nnx_attrs_to_linen_vars(nw.linen_vars_to_nnx_attrs(variables))


def conversion_of_variables():
    kernel_init = nn.with_partitioning(nn.initializers.ones, ("rows", None))
    variables = nn.Sequential([nn.Dense(3, kernel_init=kernel_init), Linen()]).init(KEYS, X)
    return Case(lambda: convert(variables), lambda: describe(variables))


def quantized_apply():
    qwix = pytest.importorskip("qwix", reason="Qwix is an extra")
    provider = qwix.QtProvider([qwix.QtRule(module_path=".*layer", weight_qtype=jnp.int8)])
    model = qwix.quantize_model(nn.Sequential([MODEL]), provider)
    variables = model.init(KEYS, X)
    nw.clear_caches()
    rngs = {"dropout": KEYS["dropout"]}
    return Case(
        lambda: model.apply(variables, X, rngs=rngs, mutable=["batch_stats"]),
        lambda: describe(variables),
    )


def bridge_contents():
    return {name: vars(module) for name, module in sys.modules.items() if "nnx.bridge" in name}


def replaced_names():
    """What an installation changes in the interpreter."""
    contents = {name: [*map(id, names.values())] for name, names in bridge_contents().items()}
    return contents, [*map(id, sys.meta_path)]


def install_and_see():
    nw.install()
    found = bridge_contents().items()
    return sorted(f"{n}.{k}" for n, names in found for k in names if names[k] is nw.ToNNX)


def install():
    nw.install().restore()
    return Case(install_and_see, replaced_names)


def install_again():
    nw.install().restore()
    bridge = flax.nnx.bridge.wrappers
    flax_s = bridge.ToNNX
    nw.install()
    bridge.ToNNX = flax_s  # for the second call to replace
    return Case(install_and_see, replaced_names)


def restore():
    nw.install().restore()
    original = replaced_names()
    installation = nw.install()

    def call():
        installation.restore()
        return replaced_names() == original

    # No state: what a failed call has put back stays so.
    return Case(call, lambda: None)


CASES = {
    case.__name__: case
    for case in (
        to_nnx_call,
        lazy_init,
        lazy_init_of_a_graph,
        to_linen_init,
        to_linen_apply,
        to_linen_apply_without_statistics,
        to_linen_apply_that_builds_a_plan,
        conversion_of_variables,
        quantized_apply,
        # These enter hardly any Python function.
        *((install, install_again, restore) if EVERY_CALL_COUNTS else ()),
    )
}


def context():
    """What belongs to the thread and has to be as before after every call."""
    return (
        len(flax.linen.module._context.module_stack),
        len(flax.nnx.bridge.module.MODULE_CONTEXT.module_stack),
        sys.gettrace(),
        nw.current_linen_module(),
    )


@pytest.fixture
def nothing_installed():
    yield
    nw.install().restore()


# Of Qwix, and of install() where other tests hold Flax's classes.
@pytest.mark.filterwarnings("ignore:'VariableState' was removed")
@pytest.mark.filterwarnings("ignore:nnx_wrappers.install.. came late")
@pytest.mark.usefixtures("fresh_caches", "nothing_installed")
@pytest.mark.parametrize("name", CASES)
def test_each_call_into_python_fails_once(name, record_property):
    counter = make_counter(convert)
    CASES[name]().call()  # so that the caches hold what they hold in all runs
    case = CASES[name]()
    counter.fail_at(10**9)
    try:
        wanted = describe(case.call())
    finally:
        counter.stop()
    total = counter.calls
    assert total > 5
    failures = 0
    for number in numbers(total, MOST // 2 if "plan" in name else MOST):
        case = CASES[name]()
        before = case.state(), context()
        kind = KeyboardInterrupt if number % 2 else RuntimeError
        counter.fail_at(number, kind)
        error = None
        try:
            result = case.call()
        except (kind, ImportError) as raised:
            error = raised
        finally:
            counter.stop()
        what = f"{kind.__name__} in call {number} of {total} ({counter.failed})"
        assert counter.calls >= number, what
        # What is no Exception always passes.
        assert error is not None or kind is RuntimeError, what
        if error is not None:
            failures += 1
            assert is_injected(error), what
            assert (case.state(), context()) == before, what
            result = case.call()
        assert describe(result) == wanted, what
        assert context() == before[1], what
    assert failures > 5
    record_property("faults", failures)
