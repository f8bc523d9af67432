"""What maxtext's page of wrappers has beyond Flax's, as its models use it."""

import typing as tp
import warnings

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, ours, theirs

X = jnp.arange(6.0).reshape(2, 3)
KEY = jax.random.key(0)
SEEN: list[tp.Any] = []  # by the modules below: Linen makes tuples of lists that are fields


pytestmark = pytest.mark.usefixtures("with_and_without_plans")


@pytest.fixture(autouse=True)
def _nothing_seen():
    SEEN.clear()


# --- a subclass of ToLinen with an `init` and an `apply` of its own -----------------------


class Model(nnx.Module):
    """Made for a mode, and called with it."""

    def __init__(self, width, *, mode, rngs):
        self.mode = mode
        self.linear = nnx.Linear(3, width, rngs=rngs)
        if mode == "decode":
            self.steps = nnx.BatchStat(jnp.zeros(()))

    def __call__(self, x, *, mode):
        assert mode == self.mode
        if mode == "decode":
            self.steps[...] += 1
        return self.linear(x) * len(mode)


def model_of(bridge):
    class Linen(bridge.ToLinen):
        """As maxtext's TransformerLinen: the mode is an argument of both."""

        def init(self, *args, mode="train", **kwargs):
            module = self.clone(kwargs=self.kwargs.copy({"mode": mode}))
            return bridge.ToLinen.init(module, *args, mode=mode, **kwargs)

        def apply(self, *args, mode="train", **kwargs):
            module = self.clone(kwargs=self.kwargs.copy({"mode": mode}))
            return bridge.ToLinen.apply(module, *args, mode=mode, **kwargs)

    return Linen(Model, args=(4,), kwargs=nn.FrozenDict({"mode": "train"}))


@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_subclass_with_its_own_init_and_apply_runs_as_in_flax(call):
    def run(bridge):
        model = model_of(bridge)
        train, decode = model.init(KEY, X), model.init(KEY, X, mode="decode")
        step = call(lambda v, x: model.apply(v, x, mode="decode", mutable=["batch_stats"]))
        out, updates = step(decode, X)
        again = step({**decode, **updates}, X)
        return train, decode, call(model.apply)(train, X), out, updates, again

    mine, reference = run(ours), run(theirs)
    assert_same(mine, reference)
    assert mine[-1][1]["batch_stats"]["steps"] == 2


# --- to_linen_class: the boxes that `base_metadata_fn` makes ------------------------------


class Layer(nnx.Module):
    def __init__(self, width=4, *, rngs):
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("embed", "mlp"))
        with nnx.use_eager_sharding(False):
            self.linear = nnx.Linear(3, width, kernel_init=init, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.linear(x))


def to_box(box: type) -> tp.Callable[[nnx.Variable], tp.Any]:
    def metadata_fn(variable):
        names = variable.get_metadata().get("out_sharding")
        return variable.get_value() if names is None else box(variable.get_value(), tuple(names))

    return metadata_fn


@pytest.mark.parametrize("box", [nn.LogicallyPartitioned, nn.Partitioned])
def test_boxes_of_linen_from_base_metadata_fn_are_those_of_flax(box):
    metadata_fn = to_box(box)

    def run(make):
        model = make()
        variables = model.init(KEY, X)
        out, updates = model.apply(variables, X, mutable=["params", "batch_stats"])
        plain = model.apply(nn.meta.unbox(variables), X)
        return variables, nn.get_partition_spec(variables), out, updates, plain

    mine = run(ours.to_linen_class(Layer, base_metadata_fn=metadata_fn))
    reference = run(lambda: theirs.ToLinen(Layer, metadata_fn=metadata_fn))
    assert_same(mine, reference)
    kernel = mine[0]["params"]["linear"]["kernel"]
    assert type(kernel) is box
    assert kernel.names == ("embed", "mlp")
    assert type(mine[3]["params"]["linear"]["kernel"]) is box


def test_an_instance_has_another_metadata_fn_than_its_class():
    made = ours.to_linen_class(Layer, base_metadata_fn=to_box(nn.LogicallyPartitioned))
    variables = made(metadata_fn=to_box(nn.Partitioned)).init(KEY, X)
    assert type(variables["params"]["linear"]["kernel"]) is nn.Partitioned


class Constant(nnx.Module):
    """Takes no streams."""

    def __init__(self, value):
        self.value = nnx.Param(jnp.full(3, value))

    def __call__(self, x):
        return x + self.value[...]


def test_base_skip_rng_makes_classes_that_take_no_streams():
    made = ours.to_linen_class(Constant, base_skip_rng=True, value=2.0)
    reference = theirs.ToLinen(Constant, args=(2.0,), skip_rng=True)
    variables = made().init(KEY, X)
    assert_same(variables, reference.init(KEY, X))
    assert_same(made().apply(variables, X), reference.apply(variables, X))


# --- nnx_module_augment_fn ------------------------------------------------------------------


def with_adapter(module, name):
    """Puts a layer of the same module into another, as maxtext's llama2 does."""
    module.adapter = nnx.Linear(4, 4, rngs=nnx.Rngs(7))
    module.label = name
    inner = type(module).__call__

    class Adapted(type(module)):
        def __call__(self, x):
            return self.adapter(inner(self, x)) + len(self.label or "")

    module.__class__ = Adapted
    return module


def augmented(layer_class, **fields):
    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layer_class(name="layer", **fields)(x)

    return Stack()


def test_the_augment_function_of_a_class_changes_the_structure_of_its_instances():
    model = augmented(ours.to_linen_class(Layer, nnx_module_augment_fn=with_adapter))
    variables = model.init(KEY, X)
    assert set(variables["params"]["layer"]) == {"linear", "norm", "adapter"}
    given = jax.tree.map(lambda a: a * 3, variables)

    def parts(v, *names):
        return {c: {n: leaf for n, leaf in v[c]["layer"].items() if n in names} for c in v}

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = model.apply(given, X)
    hidden = theirs.ToLinen(Layer).apply(parts(given, "linear", "norm"), X)
    adapter = {"params": given["params"]["layer"]["adapter"]}
    assert_same(out, theirs.ToLinen(nnx.Linear, args=(4, 4)).apply(adapter, hidden) + 5)


@pytest.mark.parametrize("fn", [None, lambda module, name: module], ids=["None", "another"])
def test_an_instance_has_another_augment_function_than_its_class(fn):
    made = ours.to_linen_class(Layer, nnx_module_augment_fn=with_adapter)
    model = augmented(made, nnx_module_augment_fn=fn)
    variables = model.init(KEY, X)
    assert set(variables["params"]["layer"]) == {"linear", "norm"}
    assert_same(
        model.apply(variables, X),
        theirs.ToLinen(Layer).apply({c: v["layer"] for c, v in variables.items()}, X),
    )


# --- is_linen_initializing in an NNX class ----------------------------------------------------


class Pipeline(nnx.Module):
    """Runs its layer once, and only its shape matters, while Linen initializes."""

    def __init__(self, *, rngs):
        self.layer = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
        SEEN.append(ours.is_linen_initializing())
        if ours.is_linen_initializing():
            return jnp.zeros_like(x)
        return self.layer(self.layer(x))


def test_an_nnx_class_is_told_that_linen_initializes_it():
    model = ours.ToLinen(Pipeline)
    out, variables = model.init_with_output(KEY, X)
    assert_same(out, jnp.zeros_like(X))
    layer = theirs.ToLinen(nnx.Linear, args=(3, 3))
    twice = {"params": variables["params"]["layer"]}
    assert_same(model.apply(variables, X), layer.apply(twice, layer.apply(twice, X)))
    Pipeline(rngs=nnx.Rngs(0))(X)
    assert SEEN == [True, False, False]


# --- unknown paths in containers ---------------------------------------------------------------


class Holds(nnx.Module):
    """`held` is a container of modules; the call records what there is in it."""

    def __init__(self, container, *, rngs):
        linear = nnx.Linear(3, 3, rngs=rngs)
        self.held = nnx.data({"a": linear} if container is dict else [linear])

    def __call__(self, x):
        items = self.held.items() if isinstance(self.held, dict) else enumerate(self.held)
        SEEN.append({key: type(value) for key, value in items})
        return x


@pytest.mark.parametrize(
    ("container", "path", "built"),
    [(dict, "b", ["b"]), (list, 2, [1, 2])],
    ids=["dict", "list"],
)
def test_missing_modules_are_built_in_containers(container, path, built):
    model = ours.ToLinen(Holds, args=(container,))
    variables = model.init(KEY, X)
    variables["params"]["held"][path] = {"w": jnp.ones(2)}
    with pytest.warns(UserWarning, match=rf"unknown module paths[^/]*\n  - held/{path}/w"):
        model.apply(variables, X)
    assert [key for key, kind in SEEN[-1].items() if kind is nnx.Module] == built


def test_a_missing_module_in_a_list_needs_an_index():
    model = ours.ToLinen(Holds, args=(list,))
    variables = model.init(KEY, X)
    variables["params"]["held"]["last"] = {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"held/last/w: expected an index into a list"):
        model.apply(variables, X)
