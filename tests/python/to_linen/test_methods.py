"""Methods, attributes and fields of a ToLinen, and of classes that `to_linen_class` makes."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, ours, theirs

X = jnp.arange(6.0).reshape(2, 3)
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


class Encoder(nnx.Module):
    def __init__(self, features, rngs):
        self.layer = nnx.Linear(3, features, rngs=rngs)

    def __call__(self, x):
        return self.encode(x)

    def encode(self, x, scale=1.0):
        return self.layer(x) * scale


LINEN_CALLS = {
    "nnx_method by name": lambda m, v: m.apply(v, X, scale=2.0, nnx_method="encode"),
    "nnx_method": lambda m, v: m.apply(v, X, scale=2.0, nnx_method=Encoder.encode),
    "method": lambda m, v: m.apply(v, X, method=lambda m, x: m.encode(x, scale=2.0)),
    "bound": lambda m, v: m.bind(v).encode(X, scale=2.0),
}


@pytest.mark.parametrize("way", sorted(LINEN_CALLS))
def test_methods_of_the_nnx_class_run_alike(way):
    mine = ours.ToLinen(Encoder, kwargs={"features": 4})
    reference = theirs.ToLinen(Encoder, kwargs={"features": 4})
    variables = reference.init(RNGS, X)
    assert_same(LINEN_CALLS[way](mine, variables), LINEN_CALLS[way](reference, variables))


def test_entries_of_kwargs_are_attributes():
    model = ours.to_linen(Encoder, features=4)
    assert model.features == 4
    with pytest.raises(AttributeError, match="nothing"):
        _ = model.nothing


def test_attributes_of_a_setup_are_found_in_subclasses():
    class WithSetup(ours.ToLinen):
        def setup(self):
            self.extra = 5

        def read(self):
            return self.extra

    model = WithSetup(nnx.Linear, args=(3, 3))
    assert model.apply({}, method="read") == 5


def test_augmenting_changes_the_structure_before_variables_are_loaded():
    names = []

    def augment(module, name):
        names.append(name)
        module.extra = nnx.Param(jnp.full((4,), 7.0))
        return module

    class Adds(Encoder):
        def __call__(self, x):
            return super().__call__(x) + self.extra[...]

    model = ours.ToLinen(Adds, args=(4,), nnx_module_augment_fn=augment, name="augmented")
    variables = model.init(RNGS, X)
    assert variables["params"]["extra"].shape == (4,)
    doubled = jax.tree.map(lambda a: a * 2, variables)
    plain = theirs.ToLinen(Encoder, args=(4,))
    layer = {"params": {"layer": doubled["params"]["layer"]}}
    assert_same(model.apply(doubled, X), plain.apply(layer, X) + 14.0)
    assert set(names) == {"augmented"}


def test_metadata_fn_decides_what_linen_stores():
    def boxed(variable):
        return nn.Partitioned(variable.get_value(), (None,) * variable.ndim)

    model = ours.ToLinen(Encoder, args=(4,), metadata_fn=boxed)
    reference = theirs.ToLinen(Encoder, args=(4,), metadata_fn=boxed)
    variables = reference.init(RNGS, X)
    assert_same(model.init(RNGS, X), variables)
    assert_same(model.apply(variables, X), reference.apply(variables, X))
    raw = ours.ToLinen(Encoder, args=(4,), metadata_fn=None)
    assert_same(
        raw.init(RNGS, X), theirs.ToLinen(Encoder, args=(4,), metadata_fn=None).init(RNGS, X)
    )


def test_fields_of_to_linen_class_override_what_the_class_fixed():
    made = ours.to_linen_class(Encoder, base_skip_rng=False, features=4)
    by_field = made(kwargs={"features": 5})
    by_name = made(features=6, name="named")
    assert made().kwargs["features"] == 4
    assert by_field.kwargs["features"] == 5
    assert by_name.kwargs["features"] == 6
    assert by_name.name == "named"

    class Sub(made):
        def twice(self, x):
            return self(x) * 2

    variables = Sub().init(RNGS, X)
    plain = theirs.ToLinen(Encoder, args=(4,))
    assert_same(variables, plain.init(RNGS, X))
    assert_same(Sub().apply(variables, X, method="twice"), plain.apply(variables, X) * 2)


def test_to_linen_class_of_a_partial_is_named_after_the_class():
    assert ours.to_linen_class(functools.partial(Encoder, 4)).__name__ == "EncoderToLinen"
