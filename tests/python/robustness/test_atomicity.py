"""A failed call changes nothing: attributes, Variables, RNG counts, flags, contexts."""

import sys
import types

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

import nnx_wrappers as nw
from support.oracle import assert_same, describe, snapshot, state_of

X = jnp.ones((2, 3))
RNGS = {"params": jax.random.key(0)}


class Fails(Exception):
    pass


class FailsAfterUpdates(nn.Module):
    """Draws keys, changes statistics, then fails if told to."""

    @nn.compact
    def __call__(self, x, fail=False):
        x = nn.BatchNorm(use_running_average=False)(nn.Dense(3)(x))
        x = nn.Dropout(0.5, deterministic=False)(x)
        if fail:
            raise Fails
        return x


class BadUpdate(nn.Module):
    """Makes a variable that ToNNX has to refuse, after others that it takes."""

    @nn.compact
    def __call__(self, x, bad=False):
        count = self.variable("tally", "a_first", lambda: jnp.zeros(()))
        count.value = count.value + 1
        if bad:
            self.variable("tally", "get_layers", lambda: jnp.zeros(()))
        return x


def test_a_failed_call_of_a_to_nnx():
    model = nw.ToNNX(FailsAfterUpdates(), rngs=nnx.Rngs(0, dropout=1)).lazy_init(X)
    before = snapshot(model)
    with pytest.raises(Fails):
        model(X, fail=True)
    assert snapshot(model) == before
    twin = nw.ToNNX(FailsAfterUpdates(), rngs=nnx.Rngs(0, dropout=1)).lazy_init(X)
    assert_same(model(X), twin(X))


def test_a_failed_call_leaves_the_callers_rngs():
    model = nw.ToNNX(FailsAfterUpdates(), rngs=nnx.Rngs(0, dropout=1)).lazy_init(X)
    rngs = nnx.Rngs(7, dropout=8)
    before = describe(state_of(rngs))
    with pytest.raises(Fails):
        model(X, rngs=rngs, fail=True)
    assert describe(state_of(rngs)) == before


def test_updates_are_applied_all_or_none():
    model = nw.ToNNX(BadUpdate(), rngs=nnx.Rngs(0)).lazy_init(X)
    before = snapshot(model)
    with pytest.raises(ValueError, match="get_layers"):
        model(X, bad=True)
    assert snapshot(model) == before


def test_a_failed_lazy_init_of_one_module():
    model = nw.ToNNX(FailsAfterUpdates(), rngs=nnx.Rngs(0, dropout=1))
    before = snapshot(model)
    with pytest.raises(Fails):
        model.lazy_init(X, fail=True)
    assert snapshot(model) == before
    assert model.lazy_init(X)(X).shape == (2, 3)


def test_a_failed_lazy_init_of_a_graph_of_modules():
    class Outer(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(3, rngs=rngs)
            self.first = nw.ToNNX(nn.Dense(3), rngs=rngs)
            self.listed = [1, 2]
            self.second = nw.ToNNX(FailsAfterUpdates(), rngs=rngs)
            self.rngs = rngs

        def __call__(self, x, fail):
            self.listed.append(3)
            self.rngs.params()
            return self.second(self.first(self.norm(x)), fail=fail)

    model = Outer(nnx.Rngs(0, dropout=1))
    before = snapshot(model), snapshot(model.first), snapshot(model.second)
    with pytest.raises(Fails):
        nw.lazy_init(model, X, fail=True)
    assert (snapshot(model), snapshot(model.first), snapshot(model.second)) == before
    nw.lazy_init(model, X, fail=False)
    assert not any(snapshot(model)[1])


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, Fails])
def test_flags_come_down_whatever_passes(error):
    class Raises(nnx.Module):
        def __call__(self):
            assert self._pytree__state.initializing
            raise error

    model = Raises()
    with pytest.raises(error):
        nw.lazy_init(model)
    assert not model._pytree__state.initializing


def test_a_module_put_in_during_lazy_init_is_not_left_initializing():
    class Grows(nnx.Module):
        def __call__(self):
            self.child = nw.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))
            self.child._pytree__state._initializing = True

    model = nw.lazy_init(Grows())
    assert not model.child._pytree__state.initializing


def test_a_failed_to_linen_call_stores_nothing():
    stored = []

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            def second_fails(variable):
                if variable.shape == (3,):
                    return nw.to_linen_var(variable)
                raise Fails

            inner = nw.ToLinen(nnx.Linear, args=(3, 3), metadata_fn=second_fails, name="inner")
            try:
                inner(x)
            except Fails:
                stored.append(dict(inner.variables))
            return x

    variables = Outer().init(RNGS, X)
    assert stored == [{}]
    assert variables == {}


def test_the_context_of_linen_is_empty_after_a_failure():
    class Model(nnx.Module):
        def __init__(self, rngs):
            pass

        def __call__(self):
            assert nw.is_linen_initializing()
            assert isinstance(nw.current_linen_module(), nw.ToLinen)
            raise Fails

    with pytest.raises(Fails):
        nw.ToLinen(Model).init(RNGS)
    assert nw.current_linen_module() is None
    assert not nw.is_linen_initializing()


class FailsOnce(types.ModuleType):
    """A module, one assignment to which fails."""

    failures = 1

    def __setattr__(self, name, value):
        if FailsOnce.failures:
            FailsOnce.failures -= 1
            raise KeyboardInterrupt
        super().__setattr__(name, value)


@pytest.fixture
def one_failure(monkeypatch):
    """The next assignment to a module of Flax's bridge fails."""

    def prepare():
        monkeypatch.setattr(FailsOnce, "failures", 1)
        monkeypatch.setattr(nnx.bridge.wrappers, "__class__", FailsOnce)

    yield prepare
    monkeypatch.undo()
    nw.install().restore()


LATE = pytest.mark.filterwarnings("ignore:nnx_wrappers.install.. came late")


@LATE
@pytest.mark.parametrize("times", [1, 2])
def test_a_failed_install_changes_nothing(one_failure, times):
    module = nnx.bridge.wrappers
    flax_s = module.ToLinen
    if times == 2:
        nw.install()
        module.ToLinen = flax_s  # for the second install to replace
    before = dict(vars(module)), list(sys.meta_path)
    one_failure()
    with pytest.raises(KeyboardInterrupt):
        nw.install()
    assert (dict(vars(module)), list(sys.meta_path)) == before
    nw.install()
    assert module.ToLinen is nw.ToLinen


@LATE
def test_a_failed_restore_is_finished_by_the_next(one_failure):
    module = nnx.bridge.wrappers
    before = dict(vars(module)), list(sys.meta_path)
    installation = nw.install()
    one_failure()
    with pytest.raises(KeyboardInterrupt):
        installation.restore()
    installation.restore()
    assert (dict(vars(module)), list(sys.meta_path)) == before
    assert installation.replaced() == {}
