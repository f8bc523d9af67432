"""Programs for child processes in which Flax has other names than those that nnx_wrappers knows."""

# Prints 'right' if both bridges agree, or the ImportError of nnx_wrappers.
COMPARE = """
import jax, jax.numpy as jnp, numpy as np
from flax import linen as nn, nnx

class Block(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs)])
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.norm(self.layers[0](x)))

class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=False)(nn.Dense(3)(x))
        return nn.Dropout(0.5, deterministic=False)(x)

def answers(bridge):
    X = jnp.arange(6.0).reshape(2, 3)
    RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    linen = bridge.to_linen(Block)
    variables = linen.init(RNGS, X)
    found = [variables]
    for _ in range(2):  # the second time what was remembered is used
        found.append(linen.apply(variables, X, rngs=RNGS, mutable=True))
    model = bridge.lazy_init(bridge.ToNNX(Net(), rngs=nnx.Rngs(params=0, dropout=1)), X)
    for _ in range(2):
        found.append(model(X, mutable=["batch_stats"]))
    found.append(nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.RngState))))
    return found

def compare(import_ours):
    try:
        ours = import_ours()
    except ImportError as error:
        return f"ImportError: {error}"
    mine, theirs = answers(ours), answers(nnx.bridge)
    left, right = (jax.tree_util.tree_leaves_with_path(tree) for tree in (mine, theirs))
    assert [path for path, _ in left] == [path for path, _ in right]
    for (path, one), (_, other) in zip(left, right):
        np.testing.assert_array_equal(one, other, err_msg=str(path))
    return "right"
"""

# Takes a name (a list of places) away while nnx_wrappers looks it up. Flax itself keeps it. Each
# case is a fork of the process, which has imported Flax and run nothing on a device.
TAKE_AWAY = (
    COMPARE
    + """
import importlib, json, os, sys

def owner_of(place):
    module, _, path = place.partition(":")
    *above, name = path.split(".")
    found = importlib.import_module(module)
    for step in above:
        found = getattr(found, step)
    return found, name

def import_without(places):
    taken = []
    for place in places:
        try:
            owner, name = owner_of(place)
            taken.append((owner, name, vars(owner)[name]))
        except (ImportError, AttributeError, KeyError):
            continue  # this version has it elsewhere
    assert taken, places
    for owner, name, _ in taken:
        delattr(owner, name)
    try:
        import nnx_wrappers
        nnx_wrappers.features()
    finally:
        for owner, name, value in taken:
            setattr(owner, name, value)
    return nnx_wrappers

outcomes = {}
for places in json.loads(sys.argv[1]):
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            outcome = compare(lambda: import_without(places))
        except BaseException as error:
            outcome = f"wrong: {type(error).__name__}: {error}"
        os.write(write, outcome.encode()[:60000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        outcomes[places[0]] = pipe.read() or "wrong: it crashed"
    os.wait()
print(json.dumps(outcomes))
"""
)

RENAMED = (
    COMPARE
    + """
def import_ours():
    import nnx_wrappers
    nnx_wrappers.features()
    return nnx_wrappers

import flax, sys
assert flax.__file__.startswith(sys.argv[1]), flax.__file__
print(compare(import_ours))
"""
)
