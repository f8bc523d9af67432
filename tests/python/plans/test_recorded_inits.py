"""Equal layers of an `init` are made of what the first one's constructor has added to the jaxpr:
in every transformation, bit for bit, and without anything of a trace being kept."""

import functools
import gc
import typing as tp

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from plans.test_repeated_calls import KEYS, LAYERS, SEEN, Stack, X, contents, staged
from support.oracle import assert_same, ours, theirs
from support.planning import COUNTS, LOG, plans, without_plans

try:
    from jax.experimental.hijax import HiPrim as OwnOperation
except ImportError:  # before JAX 0.12
    from jax.experimental.hijax import VJPHiPrimitive as OwnOperation

pytestmark = [
    pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters"),
    pytest.mark.usefixtures("fresh_caches"),
]

Function = tp.Callable[..., tp.Any]
ONES = jnp.ones(2)
RAW_KEYS = {name: jax.random.key_data(key) for name, key in KEYS.items()}


class Draws(nnx.Module):
    """Several streams, a forked one, one that is kept."""

    def __init__(self, table: jax.Array | None = None, *, rngs: nnx.Rngs) -> None:
        LOG.info("draws")
        self.first = nnx.Param(rngs.params.normal((2,)))
        self.second = nnx.Param(rngs.dropout.uniform((2,)), note=("a", None))
        self.third = nnx.Linear(2, 3, rngs=rngs.fork())
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.rngs = rngs
        self.order = [1, 2]
        self.table = nnx.BatchStat(jnp.zeros(2) if table is None else table)
        self.scale = nnx.Variable(np.float32(3))

    def __call__(self, x: jax.Array) -> tp.Any:
        self.order = [*self.order, 3]
        drawn = jax.random.uniform(self.rngs.params(), (2,))
        arrays, facts = contents(self)
        SEEN.append(facts)
        return x + self.dropout(jnp.ones(x.shape[-1])), drawn, arrays


class Uses(nnx.Module):
    """Has a value of an outer trace."""

    outer: tp.ClassVar[tp.Any] = ONES

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2,)) * Uses.outer)

    def __call__(self, x: jax.Array) -> tp.Any:
        return x + self.w[...].sum(), self.w[...]


def layers_of(bridge: tp.Any, make: Function) -> nn.Module:
    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x):
            made = []
            for name in ("a", "b", "c"):
                out = bridge.ToLinen(make, name=name)(x)
                x = out[0] if out[0].shape == x.shape else x
                made.append(out)
            return x, made

    return Layers()


def in_remat(model: nn.Module) -> Function:
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.remat(type(model))(name="inner")(x)

    return lambda keys: Outer().init_with_output(keys, X)


def in_scan(model: nn.Module) -> Function:
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            scanned = nn.scan(
                type(model), variable_axes={True: 0}, split_rngs={True: True}, length=2
            )
            return scanned(name="inner")(x)

    return lambda keys: Outer().init_with_output(keys, X)


def in_vmap(model: nn.Module) -> Function:
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            mapped = nn.vmap(type(model), variable_axes={True: 0}, split_rngs={True: True})
            return mapped(name="inner")(x)

    return lambda keys: Outer().init_with_output(keys, X)


def plain(model: nn.Module) -> Function:
    return lambda keys: model.init_with_output(keys, X)


def in_jit(model: nn.Module) -> Function:
    return lambda keys: jax.jit(model.init_with_output)(keys, X)


def in_checkpoint(model: nn.Module) -> Function:
    return lambda keys: jax.checkpoint(model.init_with_output)(keys, X)


def mapped(model: nn.Module) -> Function:
    split = functools.partial(jax.tree.map, lambda key: jax.random.split(key, 2))
    return lambda keys: jax.vmap(lambda k: model.init_with_output(k, X))(split(keys))


def mapped_over_inputs(model: nn.Module) -> Function:
    return lambda keys: jax.vmap(lambda x: model.init_with_output(keys, x))(X)


def looped(model: nn.Module) -> Function:
    def step(keys, _):
        made = model.init_with_output(keys, X)
        return {name: jax.random.fold_in(key, 1) for name, key in keys.items()}, made

    return lambda keys: jax.lax.scan(step, keys, length=2)[1]


def constant_keys(model: nn.Module) -> Function:
    return lambda keys: model.init_with_output(KEYS, X)


def one_key(model: nn.Module) -> Function:
    return lambda keys: model.init_with_output(keys["params"], X)


def with_a_value_of_the_trace(model: nn.Module) -> Function:
    def run(keys):
        Uses.outer = jax.random.normal(keys["dropout"], (2,))
        try:
            return model.init_with_output(keys, X)
        finally:
            Uses.outer = ONES

    return run


MODES = {mode.__name__: mode for mode in (
    plain, in_jit, in_checkpoint, in_remat, in_scan, in_vmap, mapped, mapped_over_inputs, looped,
    constant_keys, one_key, with_a_value_of_the_trace,
)}  # fmt: skip
KINDS: dict[str, Function] = {
    "draws": Draws,
    "uses": Uses,
    "stack": functools.partial(Stack, LAYERS["linear"]),
    "vmapped": functools.partial(Stack, LAYERS["Vmapped"]),
    "closing": functools.partial(Stack, LAYERS["Closing"]),
    "nothing": lambda *, rngs: nnx.BatchNorm(4, use_running_average=True, rngs=rngs),
}


def found(bridge: tp.Any, mode: str, kind: str, keys: tp.Any) -> list[tp.Any]:
    program = MODES[mode](layers_of(bridge, KINDS[kind]))
    SEEN.clear()
    return [staged(program, keys), list(map(str, SEEN))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_layers_are_what_their_constructors_make(mode, kind):
    # Flax's own bridge has no stream that falls back to 'params'.
    with without_plans():
        expected = found(ours if mode == "one_key" else theirs, mode, kind, KEYS)
    for _ in range(2):
        assert_same(found(ours, mode, kind, KEYS), expected)
    with without_plans():
        assert_same(found(ours, mode, kind, KEYS), expected)


@pytest.mark.parametrize("impl", ["raw", "rbg", "unsafe_rbg"])
@pytest.mark.parametrize("mode", ["plain", "in_scan", "mapped"])
def test_layers_of_other_keys_are_what_their_constructors_make(mode, impl):
    keys = RAW_KEYS
    if impl != "raw":
        keys = {name: jax.random.key(seed, impl=impl) for seed, name in enumerate(KEYS)}
    expected = found(theirs, mode, "draws", keys)
    for _ in range(2):
        assert_same(found(ours, mode, "draws", keys), expected)


@pytest.mark.feature("plans")
@pytest.mark.feature("repeated_calls")
@pytest.mark.parametrize("mode", ["plain", "in_jit", "in_remat", "looped"])
def test_one_constructor_runs_for_all_layers(mode):
    before = COUNTS["draws"]
    program = MODES[mode](layers_of(ours, Draws))
    jax.eval_shape(program, KEYS)
    first = COUNTS["draws"] - before
    jax.eval_shape(lambda keys: program(keys), KEYS)
    assert COUNTS["draws"] == before + first
    assert first == 1
    assert plans()["size"] == 1


def tracers() -> list[jax.core.Tracer]:
    return [one for one in gc.get_objects() if isinstance(one, jax.core.Tracer)]


def test_nothing_of_the_trace_is_kept():
    gc.collect()
    before = {id(one) for one in tracers()}
    with jax.checking_leaks():
        jax.make_jaxpr(plain(layers_of(ours, Draws)))(KEYS)
    assert [one for one in tracers() if id(one) not in before] == []


class Names:
    def __init__(self, names: list[str]) -> None:
        self.names = names


class Empties(nnx.Module):
    def __init__(self, given: tp.Any, *, rngs: nnx.Rngs) -> None:
        names = given.names if isinstance(given, Names) else given
        self.w = nnx.Param(rngs.params.normal((len(names),)))
        if isinstance(names, np.ndarray):
            names[:] = 0
        else:
            names.clear()

    def __call__(self, x: jax.Array) -> jax.Array:
        return x


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("order", [(True, False), (False, True, False)], ids=str)
def test_keys_that_vary_over_the_axes_of_a_shard_map(order, length):
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    x = jnp.ones((2, 3))

    def made(bridge: tp.Any) -> list[tp.Any]:
        class Layers(nn.Module):
            @nn.compact
            def __call__(self, x):
                for _ in range(length):
                    x = bridge.ToLinen(nnx.Linear, args=(3, 3))(x)
                return x

        def shard(is_replicated: bool) -> tp.Any:
            def init(keys):
                own = keys if is_replicated else jax.tree.map(lambda key: key[0], keys)
                return jax.tree.map(lambda leaf: leaf[None], Layers().init(own, x)["params"])

            spec = jax.sharding.PartitionSpec("x")
            of_keys = jax.sharding.PartitionSpec() if is_replicated else spec
            mapped = jax.shard_map(init, mesh=mesh, in_specs=of_keys, out_specs=spec)
            split = KEYS if is_replicated else jax.tree.map(lambda key: key[None], KEYS)
            return jax.jit(mapped)(split)

        return [shard(is_replicated) for is_replicated in order]

    assert_same(made(ours), made(theirs))


def size_of(given: tp.Any) -> int:
    if isinstance(given, np.ndarray):
        return int(given.sum())
    return len(given.names if isinstance(given, Names) else given)


@pytest.mark.parametrize("kind", ["object", "array", "set"])
def test_a_constructor_that_changes_its_argument_changes_it_for_each_layer(kind):
    def lengths(bridge: tp.Any) -> list[int]:
        found = []
        given: tp.Any = {"object": Names([]), "array": np.ones(2), "set": set()}[kind]

        class Layers(nn.Module):
            @nn.compact
            def __call__(self, x):
                for _ in range(4):
                    if kind == "object":
                        given.names[:] = ["a", "b"]
                    elif kind == "array":
                        given[:] = 1
                    else:
                        given.update({"a", "b"})
                    x = bridge.ToLinen(Empties, args=(given,))(x)
                    found.append(size_of(given))
                return x

        jax.eval_shape(Layers().init, KEYS, X)
        return found

    assert lengths(ours) == lengths(theirs) == [0] * 4


@pytest.mark.feature("plans")
@pytest.mark.feature("repeated_calls")
def test_the_plan_of_an_init_makes_the_module_of_a_call():
    def give(module):
        return module.first[...], module.third.kernel[...], module.order

    class Seeded(nnx.Module):
        def __init__(self, seed: int) -> None:
            LOG.info("seeded")
            rngs = nnx.Rngs(seed)
            self.first = nnx.Param(rngs.params.normal((2,)))
            self.third = nnx.Linear(2, 3, rngs=rngs)
            self.order = [1, 2]

        def __call__(self, x: jax.Array) -> tp.Any:
            self.order = [*self.order, 3]
            return x, self.first[...]

    def run(bridge: tp.Any) -> list[tp.Any]:
        model = bridge.ToLinen(Seeded, args=(3,), skip_rng=True)
        made = [staged(lambda: model.init_with_output({}, X)) for _ in range(2)]
        partial = {"params": {"first": jnp.ones(2)}}
        return [
            made,
            staged(lambda: model.apply(partial, nnx_method=give)[:2]),
            model.apply(made[0][1], nnx_method=give),
        ]

    expected = run(theirs)
    before = COUNTS["seeded"]
    assert_same(run(ours), expected)
    assert COUNTS["seeded"] == before + 1


class Doubled(OwnOperation):
    """An operation that the program has defined for itself, which JAX rewrites later."""

    def __init__(self, aval: tp.Any) -> None:
        self.in_avals = (aval,)
        self.out_aval = aval
        self.params: dict[str, tp.Any] = {}
        super().__init__()

    def expand(self, x: jax.Array) -> jax.Array:
        return x * 2


class OfAnOwnOperation(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        drawn = rngs.params.normal((3, 3))
        self.w = nnx.Param(Doubled(jax.typeof(drawn))(drawn))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.w[...]


class TwoOfAnOwnOperation(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([OfAnOwnOperation(rngs=rngs) for _ in range(2)])

    def __call__(self, x: jax.Array) -> list[jax.Array]:
        return [layer(x) for layer in self.layers]


@pytest.mark.parametrize("cls", [OfAnOwnOperation, TwoOfAnOwnOperation])
def test_operations_of_the_program_itself_are_rewritten_in_each_layer(cls):
    x = jnp.ones((2, 3))

    def run(bridge):
        class Three(nn.Module):
            @nn.compact
            def __call__(self, x):
                return [bridge.ToLinen(cls, name=name)(x) for name in "abc"]

        # In the second trace no constructor runs.
        inits = [jax.jit(lambda *args: Three().init_with_output(*args)) for _ in range(2)]
        return [init(KEYS["params"], x) for init in inits]

    assert_same(run(ours), run(theirs))
