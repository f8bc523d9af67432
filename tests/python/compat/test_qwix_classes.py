"""The classes of NNX modules under Qwix: those of the originals, and only for a while."""

import inspect

import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import ours
from support.quantizing import INT8, KEY, X, paths, qt, qwix

pytestmark = [
    pytest.mark.feature("qwix"),
    pytest.mark.filterwarnings("ignore:'VariableState' was removed"),  # Qwix's own
    pytest.mark.usefixtures("fresh_caches", "fresh_jax"),
]


def see(module_class):
    """Runs a quantized model of the class; returns what its `__call__` noted."""
    noted = []

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return ours.ToLinen(lambda: module_class(noted), skip_rng=True)(x)

    model = qwix.quantize_model(Outer(), qt(**INT8))
    model.init(KEY, X)
    return noted


class Inner(nnx.Module):
    """A docstring."""

    def __call__(self, x, *, scale=1.0):
        """Scales."""
        return x * scale


class Noting(nnx.Module):
    def __init__(self, noted):
        self.inner = Inner()
        self.noted = nnx.static(noted)

    def __call__(self, x):
        self.noted.append(type(self.inner))
        self.noted.append(self.inner)
        return self.inner(x, scale=2.0)


def test_classes_look_like_the_originals_and_are_made_once():
    cls, inner = see(Noting)
    assert cls is not Inner
    assert cls.__base__ is Inner
    assert type(inner) is Inner  # as before, once the call is over
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(cls, name) == getattr(Inner, name)
    assert cls.__call__.__doc__ == "Scales."
    assert cls.__call__.__name__ == "__call__"
    assert inspect.signature(cls.__call__) == inspect.signature(Inner.__call__)
    assert inspect.signature(cls().__call__) == inspect.signature(Inner().__call__)
    assert see(Noting)[0] is cls
    assert ours.cache_info()["qwix_classes"]["size"] > 0
    ours.clear_caches()
    assert ours.cache_info()["qwix_classes"]["size"] == 0


def test_classes_keep_what_the_original_was_defined_with():
    class Plain(nnx.Module, pytree=False):
        def __init__(self):
            self.items = [jnp.ones(8)]  # no pytree: a list needs no mark

        def __call__(self, x):
            self.items = [x]
            return x

    class NotCallable(nnx.Module):
        def twice(self, x):
            return x * 2

    class Holder(nnx.Module, pytree=False):
        def __init__(self, noted):
            self.plain, self.other, self.noted = Plain(), NotCallable(), noted

        def __call__(self, x):
            self.noted.append((type(self.plain)._pytree__is_pytree, callable(self.other)))
            return self.other.twice(self.plain(x))

    assert see(Holder) == [(False, False)]


def test_what_qwix_sets_on_a_module_is_data():
    class Setting(nnx.Module):
        def __init__(self, noted):
            self.noted = nnx.static(noted)

        def __call__(self, x):
            self.dot_general0_lhs = [x]
            self.other = 3
            self.noted.append(dict(self._pytree__nodes))
            return x

    (nodes,) = see(Setting)
    assert nodes["dot_general0_lhs"] is True
    assert nodes["other"] is False


def test_split_merge_and_jit_inside_a_method_keep_the_paths():
    class Splitting(nnx.Module):
        def __init__(self, rngs):
            self.linear1 = nnx.Linear(8, 8, rngs=rngs)

        def __call__(self, x):
            graphdef, state = nnx.split(self.linear1)
            x = nnx.merge(graphdef, state)(x)
            return nnx.jit(lambda layer, x: layer(x))(self.linear1, x)

    provider = qt(**INT8)
    model = qwix.quantize_model(ours.to_linen(Splitting), provider)
    variables = model.init(KEY, X)
    model.apply(variables, X)
    assert set(paths(provider)) == {"linear1"}


def test_a_failed_call_leaves_path_and_classes_as_they_were():
    seen = []

    class Failing(nnx.Module):
        def __call__(self, x):
            raise ZeroDivisionError("mine")

    class Catching(nnx.Module):
        def __init__(self, rngs):
            self.failing = Failing()
            self.linear1 = nnx.Linear(8, 8, rngs=rngs)
            seen.append(self.failing)

        def __call__(self, x):
            with pytest.raises(ZeroDivisionError, match="mine"):
                self.failing(x)
            return self.linear1(x)

    provider = qt(**INT8)
    qwix.quantize_model(ours.to_linen(Catching), provider).init(KEY, X)
    assert paths(provider) == ["linear1"]
    with pytest.raises(ZeroDivisionError):
        qwix.quantize_model(ours.to_linen(lambda rngs: seen[0]), qt(**INT8)).init(KEY, X)
    assert type(seen[0]) is Failing


def test_a_module_that_reaches_another_wrapper_adds_its_key_there():
    class Inside(nnx.Module):
        def __init__(self, layer):
            self.given = layer

        def __call__(self, x):
            return self.given(x)

    class Outside(nnx.Module):
        def __init__(self, rngs):
            self.linear1 = nnx.Linear(8, 8, rngs=rngs)

        def __call__(self, x):
            return ours.ToLinen(Inside, args=(self.linear1,), skip_rng=True, name="again")(x)

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return ours.to_linen(Outside, name="layer")(x)

    provider = qt(**INT8)
    qwix.quantize_model(Outer(), provider).init(KEY, X)
    assert paths(provider) == ["layer/again/given/linear1"]
