"""Equal constructor calls inside one that is planned, and equal layers of an `init`: made from the
first ones, they are what the constructors would have made, bit for bit."""

import dataclasses
import functools
import re
import threading
import types
import typing as tp
import warnings
import weakref
import zlib

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx, struct
from flax.core import FrozenDict
from flax.linen import module as linen_module
from flax.nnx import pytreelib

from plans.test_random_programs import HELPERS, PLACES, PREAMBLE, WRAPPERS
from support.effort import LONG
from support.oracle import assert_same, ours, theirs
from support.planning import COUNTS, LOG, plans, reasons, without_plans

X = jnp.arange(24.0).reshape(2, 3, 4)
KEYS = {name: jax.random.key(seed) for seed, name in enumerate(("params", "dropout", "carry"))}

pytestmark = [
    pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters"),
    pytest.mark.usefixtures("fresh_caches"),
]


class Stack(nnx.Module):
    """Equal layers."""

    def __init__(self, make: tp.Callable[..., tp.Any], *, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([make(rngs=rngs) for _ in range(7)])
        self.after = nnx.Param(rngs.params.uniform((2,)))  # tells where the counts are

    def __call__(self, x: jax.Array) -> tp.Any:
        """All arrays of the module. What else there is to it goes to SEEN."""
        arrays, facts = contents(self)
        SEEN.append(facts)
        return arrays


SEEN: list[tp.Any] = []


def contents(module: nnx.Module) -> tuple[list[jax.Array], list[tp.Any]]:
    """All arrays of a module, and what else there is to it."""
    flat = nnx.to_flat_state(nnx.state(module))
    metadata = [
        (path, type(leaf), sorted(map(str, leaf.get_metadata().items())))
        for path, leaf in flat
        if isinstance(leaf, nnx.Variable)
    ]
    leaves = [leaf.get_raw_value() if isinstance(leaf, nnx.Variable) else leaf for _, leaf in flat]
    is_key = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    arrays = [jax.random.key_data(v) if k else v for v, k in zip(leaves, is_key, strict=True)]
    return arrays, [*metadata, *_text_of(nnx.graphdef(module))]


def _text_of(graphdef: tp.Any) -> list[str]:
    """Without addresses, and with the class that stands for Flax's Rngs in an `init`."""
    text = re.sub(r" at 0x[0-9a-f]+", "", str(graphdef)).replace("LinenRngs", "Rngs")
    return re.split(r"(?<=\)), ", text)


def staged(function: tp.Callable[..., tp.Any], *args: tp.Any) -> tp.Any:
    """The result of a function in a trace, computed equation by equation, as nothing else is."""
    program, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    leaves = jex.jaxpr_as_fun(program)(*jax.tree.leaves(args))
    return jax.tree.unflatten(jax.tree.structure(shape), leaves)


def run(bridge: types.ModuleType, cls: tp.Any, *args: tp.Any) -> tuple[list[tp.Any], list[tp.Any]]:
    """What a wrapped class gives: staged `init`s of equal layers, calls without variables, and the
    call with them."""
    SEEN.clear()

    class Equal(nn.Module):
        @nn.compact
        def __call__(self, x):
            return [bridge.ToLinen(cls, args=args, name=name)(x) for name in ("a", "b", "c")]

    model = bridge.ToLinen(cls, args=args)
    variables = staged(lambda keys: model.init(keys, X), KEYS)
    return [
        staged(Equal().init_with_output, KEYS, X),
        variables,
        staged(lambda keys: model.apply({}, X, rngs=keys), KEYS),
        model.apply({}, X, rngs=KEYS),
        staged(model.apply, variables, X),
    ], list(SEEN)


def assert_alike(cls: tp.Any, *args: tp.Any, oracle: types.ModuleType = theirs) -> None:
    with without_plans():
        expected, expected_seen = run(oracle, cls, *args)
    for _ in range(2):
        found, seen = run(ours, cls, *args)
        assert_same(found, expected)
        assert len(seen) == len(expected_seen)
        for mine, other in zip(seen, expected_seen, strict=True):
            assert [pair for pair in zip(mine, other, strict=False) if pair[0] != pair[1]] == []


class Custom(nnx.Module):
    def __init__(self, size: int = 3, *, rngs: nnx.Rngs) -> None:
        self.weight = nnx.Param(rngs.params.normal((size,)), note=("axis",))
        self.count = nnx.BatchStat(jnp.zeros((), jnp.int32), note="x")
        self.inner = nnx.Dict(a=nnx.Linear(2, 2, rngs=rngs), b=nnx.Param(jnp.ones(2)))
        self.names = ("a", 1, None)
        self.scale = 0.5


class Tied(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.left = nnx.Linear(2, 2, rngs=rngs)
        self.right = nnx.Linear(2, 2, rngs=rngs)
        self.right.kernel = self.left.kernel


class Closing(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        value = rngs.params.normal((2,))
        self.linear = nnx.Linear(2, 2, rngs=rngs)
        self.function = lambda: value + self.linear.kernel[...]


class Nested(nnx.Module):
    def __init__(self, depth: int, *, rngs: nnx.Rngs) -> None:
        self.own = nnx.Linear(2, 2, rngs=rngs)
        if depth:
            self.children = nnx.List([Nested(depth - 1, rngs=rngs) for _ in range(4)])


class KeepsRngs(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.rngs = rngs
        self.w = nnx.Param(rngs.params.normal((2,)))


class KeepsRngsDeeply(nnx.Module):
    """Another module of it has them too, and what it makes later draws from them."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.first = KeepsRngs(rngs=rngs)
        self.rngs = nnx.Dict(all=rngs, one=nnx.List([rngs.params, rngs.dropout]))
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.after = nnx.Param(self.first.rngs.params.normal((2,)))


class ClosesOverRngs(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2,)))
        self.draw = lambda: rngs.params()


class KeepsRngsInMethod(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2,)))
        self.draw = rngs.params.__call__


class KeepsStream(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.stream = rngs.params


class KeepsCount(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.count = rngs.params.count


class Reseeds(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2,)))
        rngs.params.key[...] = jax.random.fold_in(rngs.params(), 7)


class AddsStream(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        rngs.extra = nnx.RngStream(rngs.params(), tag="extra")
        self.w = nnx.Param(rngs.extra.normal((2,)))


class ReplacesCount(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2,)))
        rngs.params.count = nnx.RngCount(jnp.uint32(3), tag="params")


class Vmapped(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        @nnx.split_rngs(splits=3)
        @nnx.vmap
        def make(rngs):
            return nnx.Linear(2, 2, rngs=rngs)

        self.stack = make(rngs)


class Scanned(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(jax.lax.map(lambda _: jnp.ones(2), jnp.arange(2)))
        self.cell = nnx.LSTMCell(2, 2, rngs=rngs)


class Metadata(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        init = nnx.with_metadata(nnx.initializers.normal(), tag="t", note=(1, "a"))
        self.linear = nnx.Linear(2, 2, kernel_init=init, rngs=rngs)


def lora(*, rngs: nnx.Rngs) -> nnx.Module:
    return nnx.LoRA(2, 2, 3, base_module=nnx.Linear(2, 3, rngs=rngs), rngs=rngs)


LAYERS: dict[str, tp.Callable[..., tp.Any]] = {
    "linear": lambda *, rngs: nnx.Linear(3, 4, rngs=rngs),
    "no bias": lambda *, rngs: nnx.Linear(3, 4, use_bias=False, rngs=rngs),
    "bfloat16": lambda *, rngs: nnx.Linear(3, 4, param_dtype=jnp.bfloat16, rngs=rngs),
    "general": lambda *, rngs: nnx.LinearGeneral((3, 4), (2, 5), axis=(-2, -1), rngs=rngs),
    "einsum": lambda *, rngs: nnx.Einsum("abc,cd->abd", (3, 2), (2,), rngs=rngs),
    "embed": lambda *, rngs: nnx.Embed(5, 3, rngs=rngs),
    "conv": lambda *, rngs: nnx.Conv(2, 3, (3,), rngs=rngs),
    "transposed": lambda *, rngs: nnx.ConvTranspose(2, 3, (3,), rngs=rngs),
    "batch norm": lambda *, rngs: nnx.BatchNorm(3, rngs=rngs),
    "layer norm": lambda *, rngs: nnx.LayerNorm(3, rngs=rngs),
    "group norm": lambda *, rngs: nnx.GroupNorm(4, 2, rngs=rngs),
    "spectral norm": lambda *, rngs: nnx.SpectralNorm(nnx.Linear(2, 3, rngs=rngs), rngs=rngs),
    "dropout": lambda *, rngs: nnx.Dropout(0.5, rngs=rngs),
    "attention": lambda *, rngs: nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs),
    "cell": lambda *, rngs: nnx.OptimizedLSTMCell(2, 3, rngs=rngs),
    "gru": lambda *, rngs: nnx.GRUCell(2, 3, rngs=rngs),
    "rnn": lambda *, rngs: nnx.RNN(nnx.SimpleCell(2, 3, rngs=rngs), rngs=rngs),
    "sequential": lambda *, rngs: nnx.Sequential(nnx.Linear(2, 2, rngs=rngs), nnx.relu),
    "orthogonal": lambda *, rngs: nnx.Linear(
        3, 4, kernel_init=nnx.initializers.orthogonal(), rngs=rngs),
    "lambda": lambda *, rngs: nnx.Linear(
        3, 4, kernel_init=lambda key, *args: jax.random.normal(key, *args), rngs=rngs),
    "to_nnx": lambda *, rngs: ours.ToNNX(nn.Dense(3), rngs=rngs),
    "lora": lora,
    "forked": lambda *, rngs: nnx.Linear(2, 3, rngs=rngs.fork()),
    "partly forked": lambda *, rngs: Custom(rngs=nnx.Rngs(params=rngs.params())),
    "numbered": lambda *, rngs: nnx.Linear(2, 3, rngs=nnx.Rngs(0)),
    **{cls.__name__: cls for cls in (
        Custom, Tied, Closing, KeepsRngs, KeepsRngsDeeply, ClosesOverRngs, KeepsRngsInMethod,
        KeepsStream, KeepsCount, Reseeds, AddsStream, ReplacesCount, Vmapped, Scanned,
        Metadata)},
    "nested": lambda *, rngs: Nested(2, rngs=rngs),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYERS)
def test_equal_layers_are_what_their_constructors_make(kind):
    # Flax's own bridge does not make the variables of a ToNNX inside a ToLinen.
    assert_alike(Stack, LAYERS[kind], oracle=ours if kind == "to_nnx" else theirs)


class Layered(nnx.Module):
    def __init__(self, make: tp.Callable[..., tp.Any], *, rngs: nnx.Rngs) -> None:
        LOG.info("layered")
        self.layers = nnx.List([make(rngs=rngs)])
        self.after = nnx.Param(rngs.params.uniform((2,)))

    def __call__(self, x: jax.Array) -> tp.Any:
        """A constructor runs it: with an effect it could not be planned."""
        arrays, facts = contents(self)
        return [*arrays, jnp.uint32(zlib.crc32(str(facts).encode()))]


class Decoder(nn.Module):
    make: tp.Callable[..., tp.Any]

    @nn.compact
    def __call__(self, x):
        first = self.param("first", nn.initializers.normal(), (2,))
        layers = [ours.ToLinen(Layered, args=(self.make,), name=name)(x) for name in "abc"]
        return first, layers


class Hybrid(nnx.Module):
    """A Linen module that is run by the constructor, and has equal NNX layers."""

    def __init__(self, make: tp.Callable[..., tp.Any], *, rngs: nnx.Rngs) -> None:
        self.decoder = ours.lazy_init(ours.ToNNX(Decoder(make), rngs=rngs), X)
        self.after = nnx.Param(rngs.params.uniform((2,)))

    def __call__(self, x: jax.Array) -> tp.Any:
        return self.decoder(x), self.after[...]


# The text of that one has its values, or tracers where the constructor is traced.
@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind != "KeepsRngsInMethod"])
def test_equal_layers_of_a_linen_module_that_a_constructor_runs(kind):
    # Flax's own bridge does not make the variables of a ToNNX inside a ToLinen.
    assert_alike(Hybrid, LAYERS[kind], oracle=ours)


class Placed(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        innermost = linen_module._context.module_stack[-1]
        self.w = nnx.Param(jnp.ones(1 + len(innermost.name or "") if innermost else 1))


class Places(nn.Module):
    @nn.compact
    def __call__(self, x):
        def give(module, x):
            return module.w[...]

        return [ours.ToLinen(Placed, name=name)(x, nnx_method=give) for name in ("a", "bb", "c")]


class Placing(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.places = ours.lazy_init(ours.ToNNX(Places(), rngs=rngs), X)

    def __call__(self, x: jax.Array) -> tp.Any:
        return self.places(x)


def test_layers_that_read_where_a_linen_module_is_are_made_there():
    assert_alike(Placing, oracle=ours)


@pytest.mark.feature("repeated_calls")
def test_equal_layers_inside_a_linen_module_run_once():
    model = ours.ToLinen(Hybrid, args=(LAYERS["linear"],))
    before = COUNTS["layered"]
    jax.eval_shape(lambda keys: model.init(keys, X), KEYS)
    assert COUNTS["layered"] == before + 2  # in the init that the constructor runs, and for a plan


# What may happen between two of the equal calls, each in a place that the layers read.
PROGRAM = """
import jax.numpy as jnp
{setup}
class Layer(nnx.Module):
    def __init__(self, *, rngs):
        self.linear = nnx.Linear(2, 1, rngs=rngs)
        self.factor = nnx.BatchStat(jnp.full(2, {read}))
class Net(Stack):
    def __init__(self, *, rngs):
        global {names}
        self.layers = nnx.List([])
        for step in (0, 0, 0, 0, 0, 0, 1, 1, 0, 0):
            if step: {write}
            self.layers.append(Layer(rngs=rngs))
        {back}
        self.after = nnx.Param(rngs.params.uniform((2,)))
"""


@pytest.mark.parametrize("number", range(len(PLACES) * (len(WRAPPERS) if LONG else 1)))
def test_a_change_between_equal_calls_is_seen(number):
    kind = list(PLACES.values())[number % len(PLACES)]
    wrapper = WRAPPERS[(number + number // len(PLACES)) % len(WRAPPERS)]
    read, write, back = (
        text.format(n=0, v=value)
        for text, value in ((kind.read, 0), (kind.write, 2), (kind.write, 1))
    )
    read = wrapper.format(n=0, read=read)
    setup = kind.setup.format(n=0, v=1) + HELPERS.format(n=0, read=kind.read.format(n=0))
    program = PREAMBLE + PROGRAM.format(
        setup=setup, read=read, names="G0, a0, p0, f0", write=_inline(write), back=_inline(back)
    )
    names: dict[str, tp.Any] = {"__name__": "repeated_program", "Stack": Stack}
    exec(program, names)
    assert_alike(names["Net"])


def _inline(statement: str) -> str:
    """As an argument of exec, so that it fits on any line."""
    return f"exec({statement!r}, globals())"


class Config:
    def __init__(self, width: int) -> None:
        self.width = width


class Wide(nnx.Module):
    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.linear = nnx.Linear(2, config.width, rngs=rngs)


def change_an_own_config(rngs):
    config = Config(2)
    for width in (2, 2, 2, 2, 2, 2, 3, 3):
        config.width = width
        yield Wide(config, rngs=rngs)


def new_configs(rngs):
    for width in (2, 2, 2, 3, 3):
        yield Wide(Config(width), rngs=rngs)


GIVEN = Config(2)


def change_a_global_config(rngs):
    for width in (2, 2, 2, 2, 2, 2, 3, 3, 2):
        GIVEN.width = width
        yield Wide(GIVEN, rngs=rngs)


def replace_a_method(rngs):
    kept = Wide.__init__
    for number in range(9):
        if number == 6:
            Wide.__init__ = lambda self, config, rngs: setattr(self, "w", nnx.Param(jnp.ones(1)))
        yield Wide(GIVEN, rngs=rngs)
    Wide.__init__ = kept


class Filling(nnx.Module):
    def __init__(self, found: tp.Any, *, rngs: nnx.Rngs) -> None:
        found.append(len(found))
        self.linear = nnx.Linear(2, 1 + len(found), rngs=rngs)
        self.found = tuple(found)


def fill_a_list(rngs):
    found: list[int] = []
    for _ in range(9):
        yield Filling(found, rngs=rngs)


def fill_lists_in_a_tuple(rngs):
    class First(nnx.Module):
        def __init__(self, given, *, rngs):
            given[0].append(1)
            self.w = nnx.Param(jnp.ones(len(given[0])))

    found = ([],)
    for _ in range(9):
        yield First(found, rngs=rngs)


class Keeping(nnx.Module):
    def __init__(self, items: tp.Any, *, rngs: nnx.Rngs) -> None:
        self.items = nnx.static(items)
        self.linear = nnx.Linear(2, 2, rngs=rngs)


def share_a_list(rngs):
    items: list[int] = []
    for number in range(9):
        items.append(number)
        yield Keeping(items, rngs=rngs)
        items.pop()


def a_local_class(rngs):
    scale = 1.0

    class Local(nnx.Module):
        def __init__(self, *, rngs):
            self.w = nnx.Param(rngs.params.normal((2,)) * scale)

    for number in range(9):
        scale = 1.0 if number < 6 else 2.0
        yield Local(rngs=rngs)


def a_local_initializer(rngs):
    scale = 1.0

    def init(key, shape, dtype):
        return scale * jax.random.normal(key, shape, dtype)

    for number in range(9):
        scale = 1.0 if number < 6 else 2.0
        yield nnx.Linear(2, 2, kernel_init=init, rngs=rngs)


def a_value_of_the_outer_trace(rngs):
    value = rngs.params.normal((2,))
    for _ in range(9):
        yield nnx.Linear(2, 2, kernel_init=lambda *_: value + jnp.ones((2, 2)), rngs=rngs)


class ReadsStack(nnx.Module):
    STACK: tp.ClassVar[list[tp.Any]] = []

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2,)) + (self.STACK[-1] if self.STACK else 0.0))


def a_stack_of_traced_values(rngs):
    for _ in range(7):
        ReadsStack.STACK.append(rngs.params.normal(()))
        yield ReadsStack(rngs=rngs)
        ReadsStack.STACK.pop()


class CountsAndKeeps(nnx.Module):
    """Cannot be made from a template, and changes what it reads."""

    seen = 0

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.rngs = rngs
        self.number = nnx.BatchStat(jnp.full(1, float(CountsAndKeeps.seen)))
        CountsAndKeeps.seen += 1


def refused_after_a_change(rngs):
    CountsAndKeeps.seen = 0
    for _ in range(7):
        yield CountsAndKeeps(rngs=rngs)
    CountsAndKeeps.seen = 0


@dataclasses.dataclass(frozen=True)
class Settings:
    sizes: list[int]


class GrowsAndKeeps(nnx.Module):
    def __init__(self, settings: Settings, *, rngs: nnx.Rngs) -> None:
        self.rngs = rngs
        settings.sizes.append(1)
        self.w = nnx.Param(rngs.params.normal((len(settings.sizes),)))


def refused_after_a_change_of_an_argument(rngs):
    settings = Settings([])
    for _ in range(7):
        yield GrowsAndKeeps(settings, rngs=rngs)


class Named(nnx.Module):
    def __init__(self, name: str = "none", size: int = 2, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((size,)))
        self.name = name


def positional_and_keyword_arguments(rngs):
    for _ in range(6):
        yield Named("size", 3, rngs=rngs)
    for _ in range(6):
        yield Named(size=3, rngs=rngs)


class CallsBack(nnx.Module):
    def __init__(self, call: tp.Any, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2,)))
        call(1)


def with_numbers(module, number):
    module.number = nnx.BatchStat(jnp.full(1, float(number)))
    return module


def call_back_into_a_list(rngs):
    for _ in range(7):
        found: list[int] = []
        yield with_numbers(CallsBack(lambda v: found.append(v), rngs=rngs), len(found))  # noqa: B023


def call_back_into_a_partial(rngs):
    for _ in range(7):
        found: list[int] = []
        yield with_numbers(CallsBack(functools.partial(list.append, found), rngs=rngs), len(found))


def call_back_into_an_attribute(rngs):
    for _ in range(7):

        def call(value):
            call.seen = value

        yield with_numbers(CallsBack(call, rngs=rngs), call.seen)


class KeepsItems(nnx.Module):
    def __init__(self, settings: tp.Any, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2,)))
        self.items = nnx.static(settings.sizes if isinstance(settings, Settings) else settings["a"])


def keep_a_list_of_an_argument(rngs):
    made = [FrozenDict({"a": [1]}), Settings([1])]
    layers = [KeepsItems(settings, rngs=rngs) for settings in made for _ in range(7)]
    for settings in made:
        (settings.sizes if isinstance(settings, Settings) else settings["a"]).append(9)
    return [with_numbers(layer, len(layer.items)) for layer in layers]


def keep_lists_of_equal_arguments(rngs):
    made = [Settings([1]) for _ in range(7)]
    layers = [KeepsItems(settings, rngs=rngs) for settings in made]
    made[2].sizes.append(9)
    return [with_numbers(layer, len(layer.items)) for layer in layers]


class Registered(nnx.Module):
    made: tp.ClassVar[list[tp.Any]] = []
    live: tp.ClassVar[weakref.WeakSet[tp.Any]] = weakref.WeakSet()
    ended: tp.ClassVar[list[int]] = []
    alive = 0

    def __init__(self, how: str, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2,)))
        self.how = how
        if how == "list":
            self.made.append(self)
        elif how == "weak set":
            self.live.add(self)
        elif how == "finalizer":
            weakref.finalize(self, self.ended.append, 1)
        else:
            Registered.alive += 1

    def __del__(self):
        if getattr(self, "how", "") == "end":
            Registered.alive -= 1


def registered(how):
    def layers(rngs):
        for found in (Registered.made, Registered.live, Registered.ended):
            found.clear()
        Registered.alive = 0
        made = [Registered(how, rngs=rngs) for _ in range(7)]
        same = sum(one is other for one, other in zip(made, Registered.made, strict=False))
        numbers = same, len(Registered.live), len(Registered.ended), Registered.alive
        Registered.made.clear()
        return [with_numbers(layer, number) for layer, number in zip(made, numbers, strict=False)]

    layers.__name__ = f"registered in a {how}"
    return layers


class ReplacesStream(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        rngs.params = nnx.RngStream(rngs.params(), tag="params")


def keep_what_is_replaced(rngs):
    holder = nnx.Dict(count=rngs.params.count, stream=rngs.params)
    yield holder
    for _ in range(7):
        yield ReplacesCount(rngs=rngs)
    for _ in range(7):
        yield ReplacesStream(rngs=rngs)


class KeepsNewCount(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.count = rngs.params.count = nnx.RngCount(jnp.uint32(3), tag="params")


def keep_a_new_count(rngs):
    for _ in range(7):
        yield KeepsNewCount(rngs=rngs)
        rngs.params()


def draw_from_numpy(rngs):
    np.random.seed(0)

    class Drawing(nnx.Module):
        def __init__(self, rngs):
            self.rngs = rngs
            self.w = nnx.Param(jnp.asarray(np.random.normal(size=2), jnp.float32))

    for _ in range(7):
        yield Drawing(rngs)


def while_loop(rngs):
    number = 0
    while number < 4:
        yield Custom(rngs=rngs)
        number += 1


def helper_in_a_loop(rngs):
    def make():
        return Custom(rngs=rngs)

    return [make() for _ in range(7)]


def several_rngs(rngs):
    for _ in range(6):
        forked = rngs.fork()
        for _ in range(2):
            yield nnx.Linear(2, 2, rngs=forked)
    for _ in range(2):
        yield nnx.Linear(2, 2, rngs=rngs)


def streams_of_one_key(rngs):
    one = rngs.params()
    for _ in range(7):
        yield Custom(rngs=nnx.Rngs(params=one))


def one_stream_twice(rngs):
    shared = nnx.Rngs(params=rngs.params(), noise=rngs.params())
    shared.noise = shared.params
    for _ in range(7):
        yield TwoStreams(rngs=shared)
    apart = nnx.Rngs(params=rngs.params(), noise=rngs.params())
    for _ in range(7):
        yield TwoStreams(rngs=apart)


class TwoStreams(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2,)) + rngs.noise.normal((2,)))


def another_precision(rngs):
    for number in range(12):
        with jax.default_matmul_precision("highest" if number > 5 else "default"):
            yield nnx.Linear(2, 2, kernel_init=product, rngs=rngs)


def product(key, shape, dtype):
    return jax.random.normal(key, shape, dtype) @ jnp.ones(shape, dtype)


def other_sharding(rngs):
    for number in range(12):
        with nnx.use_eager_sharding(number < 6):
            yield nnx.Linear(2, 2, rngs=rngs)


def inside_vmap(rngs):
    @nnx.split_rngs(splits=2)
    @nnx.vmap
    def make(rngs):
        return nnx.List([nnx.Linear(2, 2, rngs=rngs) for _ in range(7)])

    yield make(rngs)
    yield make(rngs)


def failing_calls(rngs):
    for number in range(12):
        try:
            yield Refusing(number % 2, rngs=rngs)
        except ValueError:
            yield nnx.Linear(2, 2, rngs=rngs)


class Refusing(nnx.Module):
    def __init__(self, number: int, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2,)))
        if number:
            raise ValueError(number)


class Positional(nnx.Module):
    def __init__(self, size: int, rngs: nnx.Rngs, other: tp.Any = None) -> None:
        self.w = nnx.Param(rngs.params.normal((size,)))
        self.same = rngs is other


def rngs_in_two_places(rngs):
    for number in range(12):
        yield Positional(2, rngs, rngs if number < 6 else None)


class Numbered(nnx.Module):
    """Its number is state of the class."""

    made = 0

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.number = nnx.BatchStat(jnp.full(1, float(Numbered.made)))
        Numbered.made += 1


def count_instances(rngs):
    Numbered.made = 0
    for _ in range(9):
        yield Numbered(rngs=rngs)


def own_streams(rngs):
    own = nnx.Rngs(7)
    other = nnx.Rngs(params=rngs.params(), dropout=3)
    for _ in range(4):
        yield nnx.Linear(2, 2, rngs=own)
        yield nnx.Linear(2, 2, rngs=other)


def streams_at_zero(rngs):
    """Each time the count is zero, and once a constant zero."""
    for number in range(5):
        yield nnx.Linear(2, 2, rngs=nnx.Rngs(params=rngs.params() if number != 2 else 5))


class Adds(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        zero = jnp.zeros((), jnp.uint32)
        count = rngs.params.count[...] + zero
        self.value = nnx.BatchStat(count * 2 + jnp.uint32(0))
        self.given = nnx.BatchStat(count)
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (2,)) + count)


def values_of_counts(rngs):
    for _ in range(5):
        yield Adds(rngs=rngs)


class ReadsAsInteger(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        try:
            self.first = int(rngs.params.count[...]) == 0
        except jax.errors.ConcretizationTypeError:
            self.first = None
        self.linear = nnx.Linear(2, 2, rngs=rngs)


class Branches(nnx.Module):
    """Equations with jaxprs inside."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        key = rngs.params()
        drawn = jax.lax.scan(
            lambda k, _: (jax.random.split(k)[0], jax.random.normal(k)), key, None, 3
        )
        chosen = jax.lax.cond(drawn[1][0] > 0, jnp.sin, jnp.cos, drawn[1])
        with jax.named_scope("named"), jax.default_matmul_precision("highest"):
            product = jnp.outer(chosen, chosen) @ jnp.ones((3, 3))
        grown = jax.lax.while_loop(lambda v: v < 3.0, lambda v: v + 1.5, product[0, 0])
        smooth = jax.nn.silu(jax.nn.relu(product)) + jax.checkpoint(jnp.tanh)(grown)
        self.weight = nnx.Param(jax.grad(lambda w: jnp.sum(w**2) * grown)(smooth))


def branches(rngs):
    for _ in range(4):
        yield Branches(rngs=rngs)


class MadeInside(nnx.Module):
    """Makes equal layers in traces of its own."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        make = lambda: [nnx.Linear(2, 2, rngs=rngs).kernel[...] for _ in range(3)]  # noqa: E731
        self.a = nnx.Param(make()[2])

        def layers(key: jax.Array) -> list[jax.Array]:
            inner = nnx.Rngs(params=key)
            return [nnx.Linear(2, 2, rngs=inner).kernel[...] for _ in range(4)]

        self.b = nnx.Param(jax.jit(layers)(rngs.params())[3])
        self.c = nnx.Param(jax.vmap(layers)(jax.random.split(rngs.params(), 2))[3])
        self.d = nnx.Param(layers(rngs.params())[3])
        step = lambda carry, key: (carry, layers(key))  # noqa: E731
        self.e = nnx.Param(jax.lax.scan(step, 0, jax.random.split(rngs.params(), 2))[1][3])


def made_inside(rngs):
    for _ in range(3):
        yield MadeInside(rngs=rngs)


class KeepsContainers(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.buffer = nnx.BatchStat(np.zeros(2, np.float32))
        self.w = nnx.Param(rngs.params.normal((2,)), names=[1])
        self.items = nnx.static([1])
        self.table = nnx.static({"a": {1}})


def change_what_the_first_one_keeps(rngs):
    for number in range(4):
        layer = KeepsContainers(rngs=rngs)
        size = len(layer.items) + len(layer.table["a"])
        layer.buffer.get_raw_value()[0] += 1
        layer.w.names.append(number)
        layer.items.append(number)
        layer.table["a"].add(number)
        yield layer
        yield nnx.BatchStat(jnp.ones(size))


class Draws(nnx.Module):
    def __init__(self, kind: str, *, rngs: nnx.Rngs) -> None:
        self.draw = {
            "closure": lambda: rngs.params.normal(()),
            "default": lambda given=rngs: given.params.normal(()),
            "method": rngs.params.normal,
            "partial": functools.partial(rngs.params.normal, ()),
        }[kind]
        self.linear = nnx.Linear(2, 2, rngs=rngs)


def keep_a_way_to_the_streams(rngs):
    for kind in ("closure", "default", "method", "partial"):
        layers = []
        for _ in range(3):
            own = nnx.Rngs(params=rngs.params())
            own.params()
            layers.append(Draws(kind, rngs=own))
        for layer in layers:
            yield nnx.Param(layer.draw(()) if kind == "method" else layer.draw())


class Tags(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.tags = nnx.static(rngs.tags)
        self.w = nnx.Param(rngs.params.normal((2,)))


def keep_a_list_of_the_streams(rngs):
    rngs.params()
    rngs.tags = nnx.static([1])
    layers = [Tags(rngs=rngs) for _ in range(3)]
    rngs.tags.append(2)
    for layer in layers:
        yield nnx.BatchStat(jnp.ones(len(layer.tags)))
    del rngs.tags


class Hashed(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.tag = hash(self)
        self.w = nnx.Param(rngs.params.normal((2,)))


def hash_themselves(rngs):
    layers = [Hashed(rngs=rngs) for _ in range(4)]
    yield nnx.BatchStat(jnp.ones(len({layer.tag for layer in layers})))


@functools.lru_cache
def remembered(number: int) -> list[int]:
    return [number]


@functools.lru_cache
def drawn() -> int:
    return len(TAKEN) + 1


TAKEN: list[int] = []


class Remembers(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2,)) * remembered(2)[0])


class Drawn(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2,)) * drawn())


def change_a_remembered_result(rngs):
    remembered.cache_clear()
    for _ in range(3):
        yield Remembers(rngs=rngs)
        yield Remembers(rngs=rngs)
        remembered(2)[0] += 1


def forget_a_remembered_result(rngs):
    TAKEN.clear()
    drawn.cache_clear()
    for _ in range(3):
        yield Drawn(rngs=rngs)
        yield Drawn(rngs=rngs)
        TAKEN.append(1)
        drawn.cache_clear()


@functools.lru_cache
def kept_node(kind: str) -> tp.Any:
    return nnx.Variable(jnp.ones(2)) if kind == "variable" else nnx.Dict(a=1)


class KeepsNode(nnx.Module):
    def __init__(self, kind: str, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2,)))
        self.kept = kept_node(kind)


def keep_remembered_nodes(rngs):
    for kind in ("variable", "module"):
        kept_node.cache_clear()
        layers = [KeepsNode(kind, rngs=rngs) for _ in range(3)]
        yield nnx.BatchStat(jnp.ones(1 + sum(one.kept is layers[0].kept for one in layers)))
    kept_node.cache_clear()


class Asked(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.size = 1
        self.info()

    @functools.lru_cache  # noqa: B019
    def info(self) -> int:
        return self.size


def remember_the_layer(rngs):
    Asked.info.cache_clear()
    layers = [Asked(rngs=rngs) for _ in range(3)]
    for layer in layers:
        layer.size = 2
    yield nnx.BatchStat(jnp.ones([layer.info() for layer in layers]))


@functools.lru_cache(maxsize=1)
def last(number: int) -> list[int]:
    return [number]


class KeepsLast(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2,)) * last(1)[0] * last(2)[0])
        self.kept = nnx.static(last(1))


def a_cache_for_one_result(rngs):
    last.cache_clear()
    layers = [KeepsLast(rngs=rngs) for _ in range(3)]
    yield nnx.BatchStat(jnp.ones(1 + sum(one.kept is layers[0].kept for one in layers)))


@struct.dataclass
class Frozen:
    held: tp.Any


class RngsInValue(nnx.Module):
    def __init__(self, place: str, *, rngs: nnx.Rngs) -> None:
        self.rngs = rngs
        self.value = nnx.Variable(VALUES[place](rngs))


VALUES: dict[str, tp.Callable[[tp.Any], tp.Any]] = {
    "itself": lambda rngs: rngs,
    "tuple": lambda rngs: (rngs,),
    "dict": lambda rngs: {"a": rngs},
    "frozen dict": lambda rngs: FrozenDict({"a": rngs}),
    "dataclass": Frozen,
}


def has_its_streams(layer: RngsInValue) -> bool:
    value = layer.value.get_raw_value()
    parts = jax.tree.leaves(value, is_leaf=lambda part: part is layer.rngs)
    return any(part is layer.rngs for part in parts)


def streams_in_a_value(rngs):
    for place in VALUES:
        layers = [RngsInValue(place, rngs=rngs) for _ in range(3)]
        yield nnx.BatchStat(jnp.ones(1 + sum(map(has_its_streams, layers))))


class Warns(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        warnings.warn("from the constructor", UserWarning, stacklevel=1)
        self.w = nnx.Param(rngs.params.normal((2,)) * len(vars(Config)))


def warn_each_time(rngs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [Warns(rngs=rngs) for _ in range(3)]


def draw_by_what_layers_keep(rngs):
    layers = [KeepsRngs(rngs=rngs) for _ in range(3)]
    for layer in layers:
        yield nnx.Param(layer.rngs.params.normal((2,)))
    yield from layers
    yield nnx.BatchStat(jnp.ones(1 + all(layer.rngs is rngs for layer in layers)))


def reseed_what_layers_keep(rngs):
    layers = []
    for number in range(3):
        layers.append(KeepsRngsDeeply(rngs=rngs))
        rngs.params.key[...] = jax.random.fold_in(rngs.params(), number)
        yield nnx.Param(layers[0].dropout.rngs.normal((2,)))
    yield from layers


PROGRAMS = (
    change_an_own_config, new_configs, change_a_global_config, replace_a_method, fill_a_list,
    fill_lists_in_a_tuple, share_a_list, a_local_class, a_local_initializer,
    a_value_of_the_outer_trace, a_stack_of_traced_values, several_rngs, streams_of_one_key,
    one_stream_twice, another_precision, other_sharding, inside_vmap, failing_calls,
    rngs_in_two_places, count_instances, refused_after_a_change,
    refused_after_a_change_of_an_argument, while_loop, helper_in_a_loop,
    positional_and_keyword_arguments, call_back_into_a_list, call_back_into_a_partial,
    call_back_into_an_attribute, keep_a_list_of_an_argument, keep_lists_of_equal_arguments,
    *map(registered, ("list", "weak set", "finalizer", "end")), keep_what_is_replaced,
    keep_a_new_count, draw_from_numpy, own_streams, streams_at_zero, values_of_counts, branches,
    made_inside, change_what_the_first_one_keeps, keep_a_way_to_the_streams,
    keep_a_list_of_the_streams, hash_themselves, change_a_remembered_result,
    forget_a_remembered_result, keep_remembered_nodes, remember_the_layer, a_cache_for_one_result,
    streams_in_a_value, warn_each_time, draw_by_what_layers_keep, reseed_what_layers_keep,
)  # fmt: skip


class Programmed(Stack):
    def __init__(self, program: tp.Callable[..., tp.Any], *, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List(list(program(rngs)))
        self.after = nnx.Param(rngs.params.uniform((2,)))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_calls_that_only_look_equal(program):
    assert_alike(Programmed, program)


class Logged(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        LOG.info("repeated")
        self.first = nnx.Linear(2, 2, rngs=rngs)
        self.second = nnx.Linear(2, 3, rngs=rngs)


def runs(function: tp.Callable[..., tp.Any], *args: tp.Any) -> int:
    """How often the constructor of Logged runs."""
    before = COUNTS["repeated"]
    staged(function, *args)
    return COUNTS["repeated"] - before


class Sized(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.sized = nnx.Variable((rngs.params.normal(()), 3, np.arange(2)))

    def __call__(self) -> jax.Array:
        number, length, table = self.sized.get_raw_value()
        return jnp.ones(length + int(table[1])) * number


class ManySized(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([Sized(rngs=rngs) for _ in range(4)])
        self.w = nnx.Param(jnp.concatenate([layer() for layer in self.layers]))

    def __call__(self) -> jax.Array:
        return jnp.concatenate([layer() for layer in self.layers]) + self.w


@pytest.mark.parametrize("cls", [Sized, ManySized])
def test_numbers_beside_traced_values_stay_numbers(cls):
    results = []
    for b in (ours, theirs):
        model = b.ToLinen(cls)
        for _ in range(3):
            results.append(staged(lambda k, model=model: model.init_with_output(k)[0], KEYS))
            results.append(staged(lambda k, model=model: model.apply({}, rngs=k), KEYS))
    assert_same(results[:6], results[6:])


def test_values_of_inner_traces_are_let_go():
    with jax.checking_leaks():
        assert_alike(Programmed, made_inside)


def test_a_count_that_is_read_as_an_integer_is_read_by_each_layer():
    class Reads(nnx.Module):
        def __init__(self, *, rngs):
            self.layers = nnx.List([ReadsAsInteger(rngs=rngs) for _ in range(3)])

        def __call__(self):
            return [layer.first for layer in self.layers]

    model = ours.ToLinen(Reads)
    eager = nn.Module.apply(theirs.ToLinen(Reads), {}, rngs=KEYS)
    assert eager == [True, False, False]
    for _ in range(2):
        assert model.apply({}, rngs=KEYS) == eager


def test_each_layer_of_a_staged_init_has_its_effects():
    seen = []

    class Prints(nnx.Module):
        def __init__(self, *, rngs):
            self.weight = nnx.Param(rngs.params.normal((2,)))
            jax.debug.callback(lambda value: seen.append(float(value)), self.weight[0])

        def __call__(self, x):
            return x * self.weight

    def layers(b):
        class Layers(nnx.Module):
            def __init__(self, *, rngs):
                self.layers = nnx.List([Prints(rngs=rngs) for _ in range(3)])

            def __call__(self, x):
                return sum(layer(x) for layer in self.layers)

        class Model(nn.Module):
            @nn.compact
            def __call__(self, x):
                for name in ("a", "b", "c"):
                    x = b.ToLinen(Layers, name=name)(x)
                return x

        seen.clear()
        jax.block_until_ready(jax.jit(Model().init_with_output)(KEYS, jnp.ones(2)))
        jax.effects_barrier()
        return sorted(seen)

    expected = layers(theirs)
    assert len(expected) == 9
    assert layers(ours) == expected


@pytest.mark.feature("repeated_calls")
def test_one_of_twelve_equal_calls_runs():
    class Looped(nnx.Module):
        def __init__(self, *, rngs):
            self.layers = nnx.List([Logged(rngs=rngs) for _ in range(12)])

    class Unrolled(nnx.Module):
        def __init__(self, *, rngs):
            self.a = Logged(rngs=rngs)
            self.b = Logged(rngs=rngs)
            self.c = Logged(rngs=rngs)
            self.d = Logged(rngs=rngs)

    for cls in (Looped, Unrolled):
        model = ours.ToLinen(cls)
        call = lambda keys: model.apply({}, rngs=keys, nnx_method=lambda self: nnx.state(self))  # noqa: B023, E731
        assert runs(call, KEYS) == 1


@pytest.mark.feature("plans")
@pytest.mark.feature("repeated_calls")
def test_layers_of_an_init_that_differ_in_name_share_a_plan():
    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(12):
                ours.ToLinen(Logged, name=None)(x, nnx_method=lambda self, x: x)
            return x

    assert runs(Layers().init, KEYS, X) == 1
    assert runs(Layers().init, KEYS, X) == 0
    before = COUNTS["repeated"]
    Layers().init(KEYS, X)  # eager: each runs, as before
    assert COUNTS["repeated"] == before + 12
    assert "repeated" not in reasons()
    assert plans()["hits"] > 0


def test_flax_is_left_as_it_was_also_when_a_constructor_fails():
    class Failing(nnx.Module):
        def __init__(self, *, rngs):
            self.layers = nnx.List([nnx.Linear(2, 2, rngs=rngs) for _ in range(3)])
            raise KeyError("from the constructor")

    before = pytreelib._graph_node_meta_call
    with pytest.raises(KeyError, match="from the constructor"):
        ours.ToLinen(Failing).apply({}, X)
    ours.ToLinen(Stack, args=(LAYERS["linear"],)).apply({}, X)
    assert pytreelib._graph_node_meta_call is before


def test_other_threads_construct_what_they_would():
    entered, leave = threading.Event(), threading.Event()
    kept: list[nnx.Module] = []

    class Waiting(nnx.Module):
        def __init__(self, *, rngs):
            self.layers = nnx.List([nnx.Linear(2, 2, rngs=rngs) for _ in range(3)])
            if threading.current_thread() is not threading.main_thread():
                entered.set()
                leave.wait(60)

        def __call__(self, x):
            return x

    thread = threading.Thread(target=lambda: ours.ToLinen(Waiting).apply({}, X, rngs=KEYS))
    thread.start()
    entered.wait(60)
    rngs, other = nnx.Rngs(0), nnx.Rngs(0)
    kept = [nnx.Linear(2, 2, rngs=rngs) for _ in range(4)]
    leave.set()
    thread.join()
    for mine, theirs_ in zip(kept, [nnx.Linear(2, 2, rngs=other) for _ in range(4)], strict=True):
        assert_same(nnx.state(mine), nnx.state(theirs_))


class Turning(nnx.Module):
    """Cannot be made from a template once it keeps an object."""

    keeps = False

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        LOG.info("turning")
        self.kept = nnx.static(Config(1) if Turning.keeps else None)
        self.w = nnx.Param(rngs.params.normal((2,)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x


def test_what_an_init_has_shown_counts_while_what_it_read_is_the_same():
    model = ours.ToLinen(Turning)
    try:
        for keeps in (False, True, True):
            Turning.keeps = keeps
            before = COUNTS["turning"]
            staged(model.init, KEYS, X)
            assert COUNTS["turning"] == before + 1
    finally:
        Turning.keeps = False
