"""User code that runs in the middle of a call, and changes what the call works on or raises: the
result is right, or the error is its own. Nothing crashes."""

import gc
import sys

import jax
import pytest
from flax import linen as nn
from flax import nnx

import nnx_wrappers as nw
from support.arguments import KEY, VARIABLES, WANTED, Layer, X, apply
from support.oracle import assert_same, snapshot

pytestmark = pytest.mark.usefixtures("no_interrupting_threads")

ERRORS = [ValueError, KeyboardInterrupt, GeneratorExit, RecursionError]


class Argument:
    """A key whose methods are given."""

    def __init__(self, on_hash=lambda: None, on_equal=lambda: False, on_delete=lambda: None):
        self.on_hash, self.on_equal, self.on_delete = on_hash, on_equal, on_delete

    def __hash__(self):
        self.on_hash()
        return 7

    def __eq__(self, other):
        return self.on_equal()

    def __del__(self):
        self.on_delete()


def raises(error):
    def function(*args, **kwargs):
        raise error

    return function


@pytest.mark.feature("plans")
@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, ValueError, RecursionError])
@pytest.mark.parametrize("method", ["on_hash", "on_equal"])
def test_no_argument_is_hashed_or_compared_by_code_of_its_own(error, method, fresh_caches):
    hostile = Argument(**{method: raises(error)})
    for _ in range(2):
        assert_same(apply(hostile), WANTED)
        assert_same(apply(Argument()), WANTED)
    assert nw.cache_info()["plans"]["hits"] >= 1


@pytest.mark.parametrize("equal", [True, False])
def test_comparing_keys_may_clear_and_fill_the_caches(equal, fresh_caches):
    def change():
        nw.clear_caches()
        apply(1)
        return equal

    for _ in range(5):
        assert_same(apply(Argument(on_hash=change, on_equal=change)), WANTED)


def test_what_a_cache_owned_may_use_the_bridge_when_it_dies(fresh_caches):
    deaths = []

    def reenter():
        apply(1)
        nw.clear_caches()
        assert_same(apply(2), WANTED)
        deaths.append(1)

    for _ in range(3):
        apply(Argument(on_delete=reenter))
        nw.clear_caches()
        gc.collect()
    assert len(deaths) == 3


def test_a_constructor_may_plan_its_own_class(fresh_caches):
    depth = 3

    class Reenters(Layer):
        def __init__(self, argument, rngs):
            nonlocal depth
            super().__init__(argument, rngs)
            if depth > 0:
                depth -= 1
                nw.ToLinen(Reenters, args=(argument,)).apply(VARIABLES, X)
                gc.collect()

    for _ in range(2):
        assert_same(nw.ToLinen(Reenters, args=(1,)).apply(VARIABLES, X), WANTED)


@jax.tree_util.register_pytree_node_class
class Bites:
    """Does something when a walk flattens it."""

    def __init__(self, bite):
        self.bite = bite

    def tree_flatten(self):
        self.bite()
        return (), None

    @classmethod
    def tree_unflatten(cls, aux, children):
        return cls(lambda: None)


def graph_with(bite):
    """A graph whose walk bites; JAX, which flattens it at construction, is spared."""

    class Model(nnx.Module):
        def __init__(self):
            self.listed = nnx.data([nnx.Param(X + i) for i in range(20)])
            self.listed.insert(1, Bites(lambda: None))
            self.named = nnx.data({"a": nnx.Param(X), "b": [nnx.Param(X)]})
            self.last = nnx.Param(X)

        def __call__(self, x):
            return x

    model = Model()
    model.listed[1].bite = lambda: bite(model)
    return model


def clear_list(module):
    module.listed.clear()
    gc.collect()


def delete_attributes(module):
    for name in ("listed", "named", "last"):
        vars(module).pop(name, None)
    gc.collect()


BITES = {
    "clear the list": clear_list,
    "delete attributes": delete_attributes,
    "grow the dict": lambda module: module.named.update({str(len(module.named)): nnx.Param(X)}),
    "call the bridge": lambda module: nw.lazy_init(nw.ToNNX(nn.Dense(2), rngs=nnx.Rngs(0)), X),
    "walk again": lambda module: nw.lazy_init(graph_with(lambda _: None), X),
    "collect": lambda module: gc.collect(),
}


@pytest.mark.parametrize("bite", BITES)
def test_a_graph_may_change_while_it_is_walked(bite):
    model = graph_with(BITES[bite])
    assert nw.lazy_init(model, X) is model
    assert not model._pytree__state.initializing


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_in_a_walk_leaves_the_graph(error):
    model = graph_with(lambda _: None)
    before = snapshot(model)
    model.listed[1].bite = raises(error)
    with pytest.raises(error):
        nw.lazy_init(model, X)
    model.listed[1].bite = lambda: None
    assert snapshot(model) == before


@pytest.mark.parametrize("error", ERRORS)
def test_a_failed_call_that_took_everything_apart_is_undone(error):
    class Model(nnx.Module):
        def __init__(self):
            self.wrapped = nw.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))
            self.listed = nnx.data([nnx.Param(X), nnx.Param(X)])
            self.named = nnx.data({"a": nnx.Param(X)})
            self.last = nnx.Param(X)

        def __call__(self, x):
            self.wrapped(x)
            self.listed.clear()
            self.named.clear()
            self.last.set_raw_value(X * 7)
            self.last.set_metadata(other=1)
            del self.last
            self.__dict__ = {"_pytree__state": self._pytree__state}
            raise error

    model = Model()
    before = snapshot(model), snapshot(model.wrapped)
    with pytest.raises(error):
        nw.lazy_init(model, X)
    assert (snapshot(model), snapshot(model.wrapped)) == before


def test_destructors_run_when_everything_is_restored():
    """What a failed call left behind dies last, and sees the module as it was."""
    seen = []

    class Dies:
        def __init__(self, module):
            self.module = module

        def __del__(self):
            seen.append((sorted(self.module.named), len(self.module.listed)))

    class Model(nnx.Module):
        def __init__(self):
            self.named = nnx.data({"a": nnx.Param(X)})
            self.listed = nnx.data([nnx.Param(X)])

        def __call__(self, x):
            self.named["b"] = Dies(self)
            self.listed[:] = [Dies(self)]
            raise ValueError

    model = Model()
    with pytest.raises(ValueError):
        nw.lazy_init(model, X)
    gc.collect()
    assert seen == [(["a"], 1)] * 2


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ["metadata_fn", "augment_fn", "initializer", "interceptor"])
def test_an_error_of_a_users_function_passes_and_leaves_the_context(where, error, fresh_caches):
    def use():
        if where == "metadata_fn":
            nw.ToLinen(Layer, args=(1,), metadata_fn=raises(error)).init(KEY, X)
        elif where == "augment_fn":
            augment = raises(error)
            nw.ToLinen(Layer, args=(1,), nnx_module_augment_fn=augment).apply(VARIABLES, X)
        elif where == "initializer":
            model = nw.ToNNX(nn.Dense(3, kernel_init=raises(error)), rngs=nnx.Rngs(0))
            before = snapshot(model)
            try:
                model.lazy_init(X)
            finally:
                assert snapshot(model) == before
        else:
            with nn.intercept_methods(raises(error)):
                nw.ToLinen(Layer, args=(1,)).apply(VARIABLES, X)

    with pytest.raises(error):
        use()
    assert nw.current_linen_module() is None
    assert_same(apply(1), WANTED)


def test_a_metadata_function_may_change_the_module():
    def empties(module):
        def convert(variable):
            module.__dict__.clear()
            gc.collect()
            return variable.get_value()

        return convert

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b = nnx.Param(X), nnx.Param(X)
            self.rows = nnx.List([nnx.Param(X) for _ in range(5)])
            made.append(self)

        def __call__(self, x):
            return x

    made = []
    model = nw.ToLinen(Model, metadata_fn=lambda v: empties(made[-1])(v))
    assert set(model.init(KEY, X)["params"]) == {"a", "b", "rows"}


def test_a_trace_function_that_an_augment_function_sets_stays(fresh_caches):
    def trace(frame, event, arg):
        return None

    def augment(module, name):
        sys.settrace(trace)
        return module if name is None else None

    before = sys.gettrace()
    try:
        nw.ToLinen(Layer, args=(1,), nnx_module_augment_fn=augment).apply(VARIABLES, X)
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)


def test_names_that_have_no_utf8_form():
    class Model(nnx.Module):
        def __init__(self, rngs):
            setattr(self, "\ud800", nnx.Param(X))

        def __call__(self, x):
            return x + getattr(self, "\ud800")[...]

    model = nw.ToLinen(Model)
    variables = model.init(KEY, X)
    assert_same(model.apply(variables, X), X + 1)
    with pytest.raises(ValueError, match=r"\\ud800"):
        nw.linen_vars_to_nnx_attrs({"params": {"\ud800": X}, "batch_stats": {"\ud800": X}})
