"""Keys of a ToNNX call are drawn when Linen asks for them, and have the bits that Flax draws."""

import functools
import typing as tp

import flax
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx
from flax.core import FrozenDict
from flax.errors import InvalidRngError

from support.keyed import (
    DROPOUT,
    Drop,
    X,
    assert_alike,
    counts,
    inline,
    made,
    streams,
    twice,
    uniform,
)
from support.oracle import assert_same, bits, describe, ours, state_of, theirs

pytestmark = pytest.mark.filterwarnings("ignore:Variable hooks are deprecated:UserWarning")


class Parts(nn.Module):
    block: nn.Module

    def setup(self):
        self.head = nn.Dense(3)

    def __call__(self, x):
        return self.head(self.block(x))

    def part(self, x):
        return self.block(x)


SILENT = Drop(deterministic=True)


def step_of(model: tp.Any) -> tuple[tp.Callable, tp.Any]:
    """The call as a function of the state."""
    graphdef, state = nnx.split(model)

    def step(state, x):
        model = nnx.merge(graphdef, state)
        return model(x), nnx.state(model)

    return step, state


def equations(jaxpr: tp.Any, name: str) -> int:
    """How many equations of this name there are, those of inner jaxprs included."""
    params = [value for equation in jaxpr.eqns for value in equation.params.values()]
    inner = [getattr(value, "jaxpr", value) for value in jax.tree.leaves(params)]
    found = sum(equation.primitive.name == name for equation in jaxpr.eqns)
    return found + sum(equations(jaxpr, name) for jaxpr in inner if hasattr(jaxpr, "eqns"))


def key_equations(bridge: tp.Any, linen: nn.Module) -> tuple[int, int]:
    step, state = step_of(made(bridge, linen))
    jaxpr = jax.make_jaxpr(step)(state, X).jaxpr
    return equations(jaxpr, "random_fold_in"), equations(jaxpr, "random_wrap")


def test_every_call_has_fresh_keys_and_advances_every_stream():
    def call(model):
        return counts(model.to_nnx__rngs), twice(model), counts(model.to_nnx__rngs)

    before, (first, second), after = assert_alike(Drop(), call)
    assert bits(first) != bits(second)
    assert after == {name: count + 2 for name, count in before.items()}


STREAMS = {
    "all": streams,
    "default": lambda: nnx.Rngs(0),
    "params": lambda: nnx.Rngs(params=0),
    "default and params": lambda: nnx.Rngs(0, params=3),
    "no dropout": lambda: nnx.Rngs(default=0, noise=5),
    "another kind of key": lambda: nnx.Rngs(jax.random.key(7, impl="rbg")),
}


@pytest.mark.parametrize("given", [False, True], ids=["own", "of_the_call"])
@pytest.mark.parametrize("rngs", STREAMS.values(), ids=STREAMS)
def test_names_of_streams_fall_back_as_in_flax(rngs, given):
    def asks(self, x):
        has = jnp.array([self.has_rng(n) for n in ("params", "default", "dropout", "noise")])
        return has, [uniform(self, name) for name in ("dropout", "noise", "params", "dropout")]

    def call(model):
        own = rngs()
        return twice(model, rngs=own), counts(own)

    assert_alike(inline(asks), call) if given else assert_alike(inline(asks), rngs=rngs)


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_a_bare_key_is_the_stream_params(make):
    assert_alike(Drop(), lambda model: twice(model, rngs=make(7)))
    assert_alike(Drop(), rngs=lambda: make(7))


@pytest.mark.parametrize("container", [dict, FrozenDict])
@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_keys_by_name_are_given_to_linen_as_they_are(container, make):
    keys = {"params": make(4), "dropout": make(5)}
    model = made(ours, DROPOUT())
    before = describe(state_of(model))
    assert_same(model(X, rngs=container(keys)), DROPOUT().apply({}, X, rngs=keys))
    assert describe(state_of(model)) == before


@pytest.mark.parametrize("streams", [5, None, FrozenDict({})], ids=["number", "none", "frozen"])
def test_streams_that_are_no_dict_are_what_linen_makes_of_them(streams):
    class Replaces(nn.Module):
        child: bool

        @nn.compact
        def __call__(self, x):
            self.scope.rngs = streams
            assert self.scope.rngs is streams
            return nn.Dense(3)(x) if self.child else x

    def outcome(bridge, child):
        try:
            return made(bridge, Replaces(child))(X)
        except (AttributeError, InvalidRngError) as error:
            return str(error).partition("\n")[0]

    for child in (False, True):
        assert_same(outcome(ours, child), outcome(theirs, child))


QUESTION = inline(lambda self, x: x + self.has_rng("dropout") + 2 * self.has_rng("other"))


@pytest.mark.feature("lazy_keys")
@pytest.mark.parametrize("linen", [SILENT, QUESTION], ids=["silent", "has_rng"])
def test_a_model_that_never_asks_draws_no_key(linen):
    assert key_equations(ours, linen) == (0, 0)
    assert key_equations(theirs, linen)[0] > 0
    assert_alike(linen, lambda model: jax.jit(step_of(model)[0])(step_of(model)[1], X))
    assert_alike(linen)


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_a_key_is_drawn_once_for_all_layers(layers):
    reference = key_equations(theirs, Drop(layers))
    assert key_equations(ours, Drop(layers)) == reference
    assert reference[0] > 0


@pytest.mark.parametrize("linen", [Drop(2), SILENT], ids=["asks", "silent"])
def test_under_nnx_s_and_jax_s_transforms(linen):
    def call(model):
        step, state = step_of(model)
        step = jax.jit(step)
        first, state = step(state, X)
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(params, rest):
            rest = jax.tree.map(lambda leaf: leaf, rest)  # counts of this trace
            return nnx.merge(graphdef, params, rest)(X).sum()

        by_jax = jax.grad(loss)(params, rest)
        by_nnx = nnx.grad(lambda model: model(X).sum())(model)
        run = nnx.jit(lambda model, x: model(x))
        return first, step(state, X), by_jax, by_nnx, run(model, X), run(model, X)

    assert_alike(linen, call)


def test_vmapped_streams_give_each_lane_its_keys():
    results = []
    for bridge in (ours, theirs):
        rngs = streams()
        nnx.split_rngs(rngs, splits=3)
        model = nnx.vmap(functools.partial(made, bridge, Drop()))(rngs)
        run = nnx.vmap(lambda model, x: model(x), in_axes=(0, None))
        results.append(([run(model, X), run(model, X)], state_of(model)))
    assert_same(results[0], results[1])
    assert len({bits(lane) for lane in results[0][0][0]}) == 3


KEYS = jax.random.split(jax.random.key(0), 3)


@pytest.mark.feature("lazy_keys")
@pytest.mark.parametrize(
    "call",
    [lambda model: jax.jit(model)(X), lambda model: model(X, rngs=nnx.Rngs(KEYS))],
    ids=["another trace", "batched keys"],
)
def test_streams_that_flax_refuses_are_refused_alike(call):
    caught = []
    for bridge in (ours, theirs):
        with pytest.raises((flax.errors.TraceContextError, ValueError)) as raised:
            call(made(bridge, Drop()))
        caught.append(raised)
    assert caught[0].type is caught[1].type
    if caught[0].type is flax.errors.TraceContextError:
        assert "stream 'dropout'" in str(caught[0].value)
        assert "release_rngs()" in str(caught[0].value)
    else:
        assert str(caught[0].value) == str(caught[1].value)


class FoldsMore(nnx.RngStream):
    def __call__(self):
        return jax.random.fold_in(super().__call__(), 99)


class Skips(nnx.RngCount):
    def get_value(self, *args, **kwargs):
        return super().get_value(*args, **kwargs) + 10


def stream(name: str, kind: type | None = None, **hooks: tp.Any) -> nnx.RngStream:
    made = nnx.RngStream(5, tag="dropout")
    plain = getattr(made, name)
    setattr(made, name, (kind or type(plain))(plain.get_raw_value(), tag="dropout", **hooks))
    return made


USER_STREAMS = {
    "subclass": lambda: FoldsMore(5, tag="dropout"),
    "hook of the count": lambda: stream("count", on_get_value=lambda _, count: count + 10),
    "hook of the key": lambda: stream("key", on_get_value=lambda _, k: jax.random.fold_in(k, 1)),
    "get_value of the count": lambda: stream("count", Skips),
}


@pytest.mark.parametrize("make", USER_STREAMS.values(), ids=USER_STREAMS)
def test_streams_with_code_of_the_user_run_it_as_in_flax(make):
    def call(model):
        rngs, plain = nnx.Rngs(0, dropout=5), nnx.Rngs(0, dropout=5)
        rngs.dropout = make()
        return twice(model, rngs=rngs), model(X, rngs=plain), counts(rngs)

    (first, _), plain, _ = assert_alike(Drop(), call)
    assert bits(first) != bits(plain)


class Reversed(nnx.Rngs):
    """Gives its streams in an order of its own, and one of them not at all."""

    def items(self):
        return [item for item in reversed(list(super().items())) if item[0] != "hidden"]


def test_a_class_of_streams_with_items_of_its_own_is_asked_for_them():
    def call(model):
        rngs = Reversed(0, dropout=5, hidden=6)
        return twice(model, rngs=rngs), {
            name: int(rngs[name].count[...]) for name in ("default", "dropout", "hidden")
        }

    _, after = assert_alike(Drop(), call)
    assert after == {"default": 2, "dropout": 2, "hidden": 0}


def test_one_stream_under_several_names_advances_once_for_each():
    def call(model):
        rngs = nnx.Rngs(0)
        rngs.dropout = rngs.noise = rngs.default
        return twice(model, rngs=rngs), counts(rngs)

    *_, seen = assert_alike(inline(lambda self, x: uniform(self) - uniform(self, "noise")), call)
    assert seen == {"default": 6, "dropout": 6, "noise": 6}


@pytest.mark.parametrize("asks", [False, True])
def test_a_failed_call_gives_the_keys_back(asks):
    def fails(self, x):
        raise RuntimeError(f"broken with {uniform(self) if asks else None}")

    model = made(ours, Drop())
    before = describe(state_of(model))
    with pytest.raises(RuntimeError, match="broken"):
        model(X, method=fails)
    assert describe(state_of(model)) == before
    assert_same(twice(model), twice(made(theirs, Drop())))


def scanned(split: bool) -> nn.Module:
    class Step(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return Drop()(x), None

    axes, rngs = {"params": 0}, {"params": True, "dropout": split}
    scan = nn.scan(Step, variable_axes=axes, split_rngs=rngs, length=3)
    return inline(lambda self, x: scan()(x, None)[0])


def vmapped(self: nn.Module, x: jax.Array) -> jax.Array:
    axes, rngs = {"params": 0}, {"params": True, "dropout": True}
    return nn.vmap(Drop, variable_axes=axes, split_rngs=rngs, in_axes=None, axis_size=3)()(x)


def scopes(self: nn.Module, x: jax.Array) -> tp.Any:
    keys = {name: rng.as_jax_rng() for name, rng in sorted(self.scope.rngs.items())}
    child = self.scope.push("child")
    drawn = [child.make_rng("noise"), child.rewound().make_rng("noise"), uniform(self)]
    return keys, jax.tree.leaves(self.scope.rngs), self.scope.root.make_rng("dropout"), drawn


def another(self: nn.Module, x: jax.Array) -> tp.Any:
    variables = {"params": {"Dense_0": {"kernel": jnp.ones((3, 3)), "bias": x[0]}}}
    keys = {name: self.make_rng(name) for name in ("params", "dropout")}
    text = Drop(parent=None).tabulate(keys, x)
    return Drop(parent=None).apply(variables, x, rngs=self.scope.rngs), len(text), uniform(self)


def three_deep(bridge: tp.Any) -> nn.Module:
    def call(self, x):
        x = DROPOUT()(bridge.ToLinen(nnx.Linear, args=(3, 3))(x))
        return bridge.ToLinen(nnx.Dropout, args=(0.5,))(x)

    return inline(call)


SHARED = DROPOUT()
LINEN = {
    "remat": inline(lambda self, x: nn.remat(Drop)(2)(x)),
    "jit": inline(lambda self, x: uniform(self) + nn.jit(Drop)(2)(x)),
    "scan": scanned(True),
    "scan with one key": scanned(False),
    "vmap": inline(vmapped),
    "scopes": inline(scopes),
    "init and apply inside": inline(another),
    "a shared layer": Parts(nn.Sequential([SHARED, Drop(), SHARED])),
    "three deep": three_deep,
}


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("make", LINEN.values(), ids=LINEN)
def test_all_of_linen_draws_flax_s_keys(make, jit):
    assert_alike(make, lambda m: jax.jit(step_of(m)[0])(step_of(m)[1], X) if jit else twice(m))


@pytest.mark.parametrize("name", ["remat", "jit", "scan", "vmap"])
def test_no_key_leaves_a_lifted_transform(name):
    with jax.checking_leaks():
        made(ours, LINEN[name])(X)


TRANSFORMS = {
    "jit": lambda f, x: jax.jit(f)(x),
    "vmap": lambda f, x: jax.vmap(f)(x),
    "scan": lambda f, x: jax.lax.scan(lambda carry, _: (f(carry), None), x, length=2)[0],
    "remat": lambda f, x: jax.checkpoint(f)(x),
    "eval_shape": lambda f, x: x + jax.eval_shape(f, x).ndim,
}
DRAWS = {
    "has_rng": lambda self, layer, x: x + self.has_rng("dropout") + self.has_rng("other"),
    "scope.rngs": lambda self, layer, x: x * len(self.scope.rngs),
    "make_rng": lambda self, layer, x: x * uniform(self),
    "layer": lambda self, layer, x: layer(x),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_no_key_leaves_the_user_s_transform_that_it_is_drawn_in(transform, draw):
    def call(self, x):
        layer = DROPOUT()
        x = transform(lambda x: draw(self, layer, x), x)
        return layer(x) + uniform(self)

    linen = inline(call, lambda self, x: DROPOUT()(x))
    assert_alike(linen)
    with jax.checking_leaks():
        made(ours, linen)(X)


METHODS = ["block", "part", Parts.part, lambda self, x: self.head(self.block(x))]


@pytest.mark.parametrize("method", METHODS, ids=["submodule", "name", "method", "function"])
@pytest.mark.parametrize("block", [DROPOUT(), Drop(), SILENT], ids=["layer", "asks", "silent"])
def test_keys_of_a_call_by_method_and_of_captured_intermediates(method, block):
    capture = {"capture_intermediates": True, "mutable": ["intermediates"]}
    assert_alike(Parts(block), lambda model: [*twice(model, method=method), model(X)])
    assert_alike(Parts(block), lambda model: twice(model, method=method, **capture))


def test_interceptors_may_ask_for_keys():
    def interceptor(next_fun, args, kwargs, context):
        out = next_fun(*args, **kwargs)
        return out if context.method_name == "setup" else out + uniform(context.module)

    def call(model):
        with nn.intercept_methods(interceptor):
            return twice(model)

    assert_alike(Parts(Drop()), call)
