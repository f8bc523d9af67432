"""Linen modules written as users write them: setup, compact, sow, lifted, boxed."""

import typing as tp

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx, struct
from flax.core import meta

from .case import Case, floats

X = floats(2, 4)
KERNEL = nn.initializers.lecun_normal()
ZEROS = nn.initializers.zeros_init()


class SetupModel(nn.Module):
    """Submodules as an attribute, in a list and in a dict; three methods."""

    def setup(self) -> None:
        self.first = nn.Dense(3)
        self.listed = [nn.Dense(3), nn.Dense(3)]
        self.named = {"a": nn.Dense(3), "b": nn.Dense(2)}
        self.scale = self.param("scale", nn.initializers.ones, (3,))

    def encode(self, x: jax.Array) -> jax.Array:
        for layer in (self.first, *self.listed):
            x = nn.relu(layer(x))
        return x * self.scale

    def decode(self, z: jax.Array, *, offset: float = 0.0) -> jax.Array:
        return self.named["b"](self.named["a"](z)) + offset

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.decode(self.encode(x), offset=1.0)


class CompactModel(nn.Module):
    """Nested compact modules, with batch norm and dropout."""

    train: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, extra: jax.Array | None = None) -> jax.Array:
        x = SetupModel(name="inner")(x)
        x = nn.BatchNorm(use_running_average=not self.train)(x)
        x = nn.Dropout(0.5, deterministic=not self.train)(x)
        return nn.Dense(3)(x) if extra is None else nn.Dense(3)(x) + extra


class Sower(nn.Module):
    """Sows intermediates and, with a reduction, losses; names both by path."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(2):
            x = nn.Dense(4)(x)
            self.sow("intermediates", "hidden", x)
            self.sow("losses", "l2", (x**2).sum(), reduce_fn=jnp.add, init_fn=lambda: 0.0)
        return x


class SowerHolder(nn.Module):
    """A module that sows, one level down."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        self.sow("intermediates", "before", {"x": x})
        return Sower()(x)


class Perturbed(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.perturb("hidden", nn.Dense(3)(x))
        return nn.Dense(2)(x)


class Keys(nn.Module):
    """Variables that are PRNG keys, new style and raw, renewed by each call."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        key = self.variable("keys", "key", lambda: self.make_rng("noise"))
        raw = self.variable("keys", "raw", lambda: jax.random.key_data(key.value))
        noise = jax.random.normal(key.value, x.shape)
        if not self.is_initializing():
            key.value = jax.random.fold_in(key.value, 1)
            raw.value = raw.value + 1
        return x + noise


class Pair(tp.NamedTuple):
    """A tree to keep in a variable."""

    left: jax.Array
    right: jax.Array


@struct.dataclass
class Ema:
    """Another one."""

    mean: jax.Array
    count: int = struct.field(pytree_node=False, default=3)


class TreeVariables(nn.Module):
    """Collections of its own, whose variables hold all kinds of trees."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        count = self.variable("counter", "count", jnp.zeros, (), jnp.int32)
        pair = self.variable("trees", "pair", lambda: Pair(x[0], x[1]))
        self.variable("trees", "listed", lambda: [x, (x, 1)])
        self.variable("trees", "dataclass", lambda: Ema(x))
        self.variable("trees", "nested", lambda: {"a": x, "b": {"c": x}})
        self.variable("statics", "number", lambda: 2.5)
        self.variable("statics", "array", lambda: np.arange(3, dtype=np.int8))
        self.variable("statics", "nothing", lambda: None)
        flag = self.variable("statics", "flag", jnp.array, True)
        if not self.is_initializing():
            count.value += 1
            pair.value = Pair(pair.value.right, pair.value.left)
        return jnp.where(flag.value, x * count.value, pair.value.left)


class TreeParams(nn.Module):
    """Params that are trees, and params of other types than float32."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        tree = self.param("tree", lambda key: {"w": KERNEL(key, (4, 3)), "b": jnp.zeros(3)})
        pair = self.param("pair", lambda key: Pair(jnp.ones(3), jnp.ones(3)))
        half = self.param("half", KERNEL, (3, 3), jnp.bfloat16)
        wave = self.param("wave", KERNEL, (3, 3), jnp.complex64)
        tiny = self.param("tiny", nn.initializers.ones, (3,), jnp.float8_e4m3fn)
        index = self.variable("statics", "index", lambda: jnp.array([2, 1, 0])).value
        x = (x @ tree["w"] + tree["b"]) * pair.left + pair.right
        return (x @ half @ wave)[:, index] * tiny.astype(jnp.float32)


class Tied(nn.Module):
    """One submodule used twice, and one that shares the scope of another."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        square = nn.Dense(4)
        return LoRA(nn.Dense(3))(square(square(x)))


class LoRA(nn.Module):
    base: nn.Dense

    def setup(self) -> None:
        nn.share_scope(self, self.base)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        a = self.param("lora_a", KERNEL, (x.shape[-1], 2))
        b = self.param("lora_b", ZEROS, (2, self.base.features))
        return self.base(x) + x @ a @ b


class NameScopes(nn.Module):
    """Compact name scopes: several methods that make submodules."""

    @nn.compact_name_scope
    def up(self, x: jax.Array) -> jax.Array:
        return nn.Dense(3)(x)

    @nn.compact_name_scope
    def down(self, x: jax.Array) -> jax.Array:
        return nn.Dense(4)(x)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(self.up(x))


class NameScopesInside(nn.Module):
    """The name scopes one level down, where they hide no method of the wrapper."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return NameScopes()(x)


class Step(nn.Module):
    """The body of the lifted modules below."""

    partition: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, _: tp.Any = None) -> tuple[jax.Array, jax.Array]:
        kernel = nn.with_partitioning(KERNEL, ("in", None)) if self.partition else KERNEL
        x = nn.Dense(4, kernel_init=kernel)(x)
        if not self.partition:
            x = nn.BatchNorm(use_running_average=False)(x)
            x = nn.Dropout(0.5, deterministic=False)(x)
        self.sow("intermediates", "x", x)
        return x, x.sum()


class Scanned(nn.Module):
    partition: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> tp.Any:
        layers = nn.scan(
            Step,
            variable_axes={"params": 0, "batch_stats": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            length=2,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        return layers(self.partition)(x, None)


class Lifted(nn.Module):
    """vmap, remat, jit and map_variables over submodules."""

    @nn.compact
    def __call__(self, x: jax.Array) -> tp.Any:
        mapped = nn.vmap(
            nn.Dense,
            in_axes=None,
            out_axes=0,
            axis_size=2,
            variable_axes={"params": 0},
            split_rngs={"params": True},
        )
        y = mapped(4)(x)
        y, _ = nn.remat(Step)()(y.sum(0))
        y = nn.jit(nn.Dense)(3)(y)
        first = self.is_initializing()
        positive = nn.map_variables(nn.Dense, "params", _absolute, init=first)
        return positive(2)(y)


def _absolute(variables: tp.Any) -> tp.Any:
    return jax.tree.map(jnp.abs, variables)


class Batched(nn.Module):
    """BatchApply, the one layer of flax.linen that is no module."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.BatchApply(nn.Dense(3))(x)


class Stateless(nn.Module):
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        return {"double": 2 * x}


class HoldsNNX(nn.Module):
    """An NNX class inside, whose variables are boxes."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = nnx.with_metadata(nnx.initializers.ones, note="boxed")
        x = nnx.bridge.to_linen(nnx.Linear, 4, 3, kernel_init=kernel)(x)
        return nn.Dense(2)(nnx.bridge.to_linen(nnx.BatchNorm, 3)(x))


def unsharded() -> tp.Any:
    """Annotated Variables without a mesh, which Flax's bridge refuses otherwise."""
    return nnx.use_eager_sharding(False)


class Partitioned(nn.Module):
    """Boxes in params, beside raw leaves, and in another collection."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(
            4,
            kernel_init=nn.with_partitioning(KERNEL, ("in", "out")),
            bias_init=nn.with_partitioning(ZEROS, (None,)),
        )(x)
        init = nn.with_partitioning(ZEROS, ("batch", None))
        cache = self.variable("cache", "last", init, None, x.shape)
        if not self.is_initializing():
            cache.value = cache.value + x
        return nn.Dense(2)(x)


class Logical(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = nn.with_logical_partitioning(KERNEL, ("embed", "mlp"), rules=(("mlp", None),))
        x = nn.Dense(3, kernel_init=kernel)(x)
        bias = nn.with_logical_partitioning(ZEROS, ("mlp",))
        return nn.DenseGeneral(2, bias_init=bias)(x)


class UnitBox(struct.PyTreeNode, meta.AxisMetadata[tp.Any]):
    """A box of a user's own, which keeps a unit beside the value."""

    value: tp.Any
    unit: str = struct.field(pytree_node=False, default="m")

    def unbox(self) -> tp.Any:
        return self.value

    def replace_boxed(self, val: tp.Any) -> "UnitBox":
        return self.replace(value=val)

    def add_axis(self, index: int, params: tp.Any) -> "UnitBox":
        return self

    def remove_axis(self, index: int, params: tp.Any) -> "UnitBox":
        return self


class ConvertedBox(UnitBox):
    """The same with conversions for the bridge."""

    def to_nnx_metadata(self) -> dict[str, tp.Any]:
        return {"value": self.value, "measured_in": self.unit}

    @classmethod
    def from_nnx_metadata(cls, metadata: dict[str, tp.Any]) -> "ConvertedBox":
        return cls(metadata["value"], unit=metadata["measured_in"])


class Boxed(nn.Module):
    box: type[UnitBox] = ConvertedBox

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def init(key: jax.Array, shape: tuple[int, ...], dtype: tp.Any) -> UnitBox:
            return self.box(KERNEL(key, shape, dtype), unit="kg")

        return nn.Dense(3, kernel_init=init)(x)


def _case(name: str, build: tp.Any, **options: tp.Any) -> Case:
    return Case(name, build, options.pop("args", (X,)), **options)


NOISY = ("params", "dropout")

OWN_CASES: tuple[Case, ...] = (
    _case("SetupModel", SetupModel, methods={"encode": (X,)}),
    _case("CompactModel", CompactModel, streams=NOISY),
    _case(
        "CompactModel-extra",
        lambda: CompactModel(train=False),
        kwargs={"extra": floats(2, 3)},
    ),
    _case("SowerHolder", SowerHolder),
    _case("Perturbed", Perturbed),
    _case("Keys", Keys, streams=("params", "noise")),
    _case("TreeVariables", TreeVariables),
    _case("TreeParams", TreeParams),
    _case("Tied", Tied),
    _case("NameScopesInside", NameScopesInside),
    _case("Scanned", Scanned, streams=NOISY),
    _case("Lifted", Lifted, streams=NOISY),
    _case("Batched", Batched, args=(floats(2, 3, 4),)),
    _case("Stateless", Stateless),
    _case("HoldsNNX", HoldsNNX),
    _case("Partitioned", Partitioned, context=unsharded),
    _case("Partitioned-scanned", lambda: Scanned(True), context=unsharded),
    _case("Logical", Logical, context=unsharded),
    _case("Boxed", Boxed),
)
