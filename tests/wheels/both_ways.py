"""A program that compares both wrappers with the native modules, bit for bit; it needs nothing but
the package and what that needs. `tools/wheels/test_aarch64.sh` runs it."""

import platform

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

import nnx_wrappers

x = jnp.linspace(0.0, 1.0, 6).reshape(2, 3)
key = jax.random.key(0)


def same_bits(ours: object, native: object) -> bool:
    same = jax.tree.structure(ours) == jax.tree.structure(native)
    leaves = zip(jax.tree.leaves(ours), jax.tree.leaves(native), strict=True)
    return same and all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in leaves)


class Block(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.linear(x))


native = Block(rngs=nnx.Rngs(0))
model = nnx_wrappers.ToLinen(Block)
variables = model.init(key, x)
nnx.update(native, nnx.State(nnx_wrappers.linen_vars_to_nnx_attrs(variables)))
for _ in range(2):  # by the constructor, and by its plan
    output, updates = model.apply(variables, x, mutable=["batch_stats"])
    expected = native(x)
    assert same_bits(output, expected)
    ours = nnx_wrappers.linen_vars_to_nnx_attrs(updates)["norm"]["mean"]
    assert same_bits(ours[...], native.norm.mean[...])
    variables = {**variables, **updates}
assert nnx_wrappers.cache_info()["plans"]["hits"] > 0

dense = nn.Dense(4)
to_nnx = nnx_wrappers.ToNNX(dense, rngs=nnx.Rngs(params=0)).lazy_init(x)
linen = {"params": {"kernel": to_nnx.kernel[...], "bias": to_nnx.bias[...]}}
assert same_bits(to_nnx(x), dense.apply(linen, x))

text = ""
try:
    nnx_wrappers.ToNNX(nn.Dense)
except TypeError as error:
    text = str(error)
assert "expected an instance of a Linen module" in text
print(f"all equal: nnx_wrappers {nnx_wrappers.__version__}, {platform.machine()}")
