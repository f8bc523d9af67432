"""Two programs that train under FSDP and tensor sharding, on either bridge.

A program makes a training state in its shards, and takes a step. `data` is the axis of the mesh
along which batches and weights are split (FSDP), `model` the one of tensor sharding.
"""

import functools
import typing as tp

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import nnx
from flax.training import train_state
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import nnx_wrappers

BRIDGES = {"ours": nnx_wrappers, "flax": nnx.bridge}
RULES = (("batch", "data"), ("embed", "data"), ("mlp", "model"), ("layers", None))
ROWS, EMBED, MLP, LAYERS = 8, 8, 16, 3


def make_mesh() -> Mesh:
    """Two by two devices, or the only one. Each of two processes has one row: half of a batch."""
    shape = (2, 2) if jax.device_count() == 4 else (1, 1)
    return jax.make_mesh(shape, ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def batch_of(step: int, mesh: Mesh) -> jax.Array:
    """Each process gives the rows that it would have read."""
    rows = np.random.default_rng(step).standard_normal((ROWS, EMBED)).astype(np.float32)
    mine = np.split(rows, jax.process_count())[jax.process_index()]
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return jax.make_array_from_process_local_data(sharding, mine, rows.shape)


def optimizer() -> optax.GradientTransformation:
    return optax.chain(optax.clip(1.0), optax.adamw(1e-2))


class Program:
    """What is trained: `init()`, then `step(state, batch)` again and again, all in its shards."""

    def __init__(
        self,
        make: tp.Callable[[], tp.Any],
        step: tp.Callable[[tp.Any, jax.Array], tuple[tp.Any, jax.Array]],
        abstract: tp.Any,
        shardings: tp.Any,
    ) -> None:
        self.init = jax.jit(make, out_shardings=shardings)
        self.step = jax.jit(step, out_shardings=(shardings, None), donate_argnums=0)
        self.abstract = abstract
        self.shardings = shardings

    def target(self) -> tp.Any:
        """What a checkpoint is restored to: the shapes, and the places of this mesh."""

        def placed(sharding: NamedSharding, leaves: tp.Any) -> tp.Any:
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), leaves
            )

        return jax.tree.map(placed, self.shardings, self.abstract)


class Block(nnx.Module):
    """An NNX layer whose weights have logical names of axes."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(EMBED, rngs=rngs)
        self.up = nnx.Linear(EMBED, MLP, kernel_init=named("embed", "mlp"), rngs=rngs)
        self.dropout = nnx.Dropout(0.25, rngs=rngs)
        self.down = nnx.Linear(MLP, EMBED, kernel_init=named("mlp", "embed"), rngs=rngs)

    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return x + self.down(self.dropout(nnx.gelu(self.up(self.norm(x))))), None


def named(*names: str) -> tp.Callable:
    return nnx.with_partitioning(nnx.initializers.lecun_normal(), names, eager_sharding=False)


class Scanned(nn.Module):
    """A Linen model of NNX layers: ours as a class, Flax's by the wrapper itself."""

    bridge: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
        x = nn.Dense(EMBED, kernel_init=init, name="first")(x)
        scan = functools.partial(
            nn.scan,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=LAYERS,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        if self.bridge == "ours":
            layers = scan(nnx_wrappers.to_linen_class(Block))(name="layers")
        else:
            layers = scan(nnx.bridge.ToLinen)(Block, name="layers")
        return layers(x, None)[0]


def linen_program(bridge: str, mesh: Mesh) -> Program:
    """A `TrainState` of `Scanned`, placed by logical rules."""
    model, key = Scanned(bridge), jax.random.key(0)

    def make() -> train_state.TrainState:
        params = model.init({"params": key, "dropout": key}, jnp.ones((ROWS, EMBED)))["params"]
        return train_state.TrainState.create(apply_fn=model.apply, params=params, tx=optimizer())

    def step(
        state: train_state.TrainState, batch: jax.Array
    ) -> tuple[train_state.TrainState, jax.Array]:
        def loss_of(params: tp.Any) -> jax.Array:
            rngs = {"dropout": jax.random.fold_in(key, state.step)}
            return ((state.apply_fn({"params": params}, batch, rngs=rngs) - batch) ** 2).mean()

        loss, grads = jax.value_and_grad(loss_of)(state.params)
        return state.apply_gradients(grads=grads), loss

    abstract = jax.eval_shape(make)
    if bridge == "ours":
        specs = nn.get_partition_spec(abstract)
        shardings = nn.logical_to_mesh_sharding(specs, mesh, RULES)
    else:  # Flax's boxes give no specs before the variables are made: it gets the same places
        places = jax.tree.leaves(linen_program("ours", mesh).shardings)
        shardings = jax.tree.unflatten(jax.tree.structure(abstract), places)
    return Program(make, step, abstract, shardings)


class Statistics(nn.Module):
    """A Linen module with batch norm and dropout, whose weights have axes of the mesh."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def split(*axes: str) -> tp.Callable:
            return nn.with_partitioning(nn.initializers.lecun_normal(), axes)

        x = nn.Dense(MLP, kernel_init=split("data", "model"), name="up")(x)
        x = nn.BatchNorm(use_running_average=False, momentum=0.9, name="norm")(x)
        x = nn.Dropout(0.25, deterministic=False)(nn.gelu(x))
        return nn.Dense(EMBED, kernel_init=split("model", "data"), name="down")(x)


class Holder(nnx.Module):
    """An NNX model that holds a Linen module."""

    def __init__(self, bridge: str, rngs: nnx.Rngs) -> None:
        self.linen = BRIDGES[bridge].ToNNX(Statistics(), rngs=rngs)
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("data", "model"))
        self.last = nnx.Linear(EMBED, EMBED, kernel_init=init, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(self.linen(x, mutable=["batch_stats"]))


def nnx_program(bridge: str, mesh: Mesh) -> Program:
    """The states of `Holder` and its optimizer, placed by the names in their Variables."""

    def make() -> tuple[nnx.GraphDef, nnx.State]:
        holder = Holder(bridge, nnx.Rngs(params=0, dropout=1))
        BRIDGES[bridge].lazy_init(holder, jnp.ones((ROWS, EMBED)))
        return nnx.split((holder, nnx.Optimizer(holder, optimizer(), wrt=nnx.Param)))

    graph, abstract = jax.eval_shape(make)
    shardings = nnx.get_named_sharding(abstract, mesh)

    def step(state: nnx.State, batch: jax.Array) -> tuple[nnx.State, jax.Array]:
        holder, trainer = nnx.merge(graph, state)
        loss, grads = nnx.value_and_grad(lambda model: ((model(batch) - batch) ** 2).mean())(holder)
        trainer.update(holder, grads)
        return nnx.state((holder, trainer)), loss

    return Program(lambda: make()[1], step, abstract, shardings)


PROGRAMS = {"linen": linen_program, "nnx": nnx_program}
