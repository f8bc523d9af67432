"""A plan takes apart only nodes that the constructor made, and takes none for another."""

import gc
import typing as tp

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from support.oracle import assert_same, ours

pytestmark = pytest.mark.usefixtures("fresh_caches")

X = jnp.arange(4.0).reshape(1, 4)
KEY = jax.random.key(3)


class Table(nnx.Module):
    """A module with a flatten of its own, which does not tell of its state."""

    def __init__(self, value):
        self.value = nnx.data(value)

    def _graph_node_flatten(self):
        return [("value", self.value)], (type(self),)

    def _graph_node_set_key(self, key, value):
        object.__setattr__(self, key, value)

    @classmethod
    def _graph_node_create_empty(cls, metadata):
        return object.__new__(metadata[0])

    def _graph_node_init(self, items):
        for key, value in items:
            self._graph_node_set_key(key, value)


@pytest.mark.parametrize("with_state", [True, False])
def test_a_module_of_the_user_with_a_flatten_of_its_own_stays_whole(with_state):
    table = Table(jnp.ones(4))
    if not with_state:
        vars(table).pop("_pytree__state")
    before = dict(vars(table))
    model = ours.ToLinen(Holds, args=(None,), kwargs={"find": lambda: table})
    assert_same(model.apply({}, X), X)
    assert vars(table) == before


class Holds(nnx.Module):
    def __init__(self, unused, find, rngs):
        self.table = find()

    def __call__(self, x):
        return x * self.table.value


class Fresh(Table):
    """Makes its Variable when it is flattened, so that it lives for a moment."""

    def _graph_node_flatten(self):
        return [("p", nnx.Param(self.value))], (type(self),)

    def _graph_node_set_key(self, key, value):
        object.__setattr__(self, "value", value[...])


def test_a_variable_that_lives_for_a_moment_is_not_taken_for_another_at_its_address():
    class Many(nnx.Module):
        def __init__(self, rngs):
            for number in range(6):
                setattr(self, f"b{number}", Fresh(jnp.full(2, 1 + number)))

        def __call__(self):
            return [float(getattr(self, f"b{number}").value[0]) for number in range(6)]

    for _ in range(2):
        with pytest.warns(UserWarning, match="lack parameters"):
            assert ours.ToLinen(Many).apply({}) == [1, 2, 3, 4, 5, 6]


@pytest.mark.feature("plans")
def test_the_function_that_was_traced_cannot_be_run_again():
    def bound() -> dict[int, tp.Any]:
        kind = type(ours.cache_info)  # of every function of the extension
        return {id(o): o for o in gc.get_objects() if type(o) is kind}

    found = []

    class Finds(nnx.Module):
        def __init__(self, rngs):
            found.extend(o for i, o in bound().items() if i not in before)

        def __call__(self):
            return 0

    model = ours.ToLinen(Finds)
    before = bound()
    model.apply({})
    assert found
    errors = []
    for function in found:
        for keys in ([], [KEY]):
            try:
                function(*keys)
            except (ours.InternalError, TypeError) as error:
                errors.append(error)
    assert any(isinstance(error, ours.InternalError) for error in errors)
