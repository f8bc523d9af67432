"""What needs a process of its own: peak memory, and the time of an import."""

import os
import subprocess
import sys

# One layer of 512 MiB of weights. The peak is that of the call alone: Linux is told to
# forget the one before (VmHWM falls back to what is resident now).
CALL = """
import jax, jax.numpy as jnp
from flax import nnx
import nnx_wrappers
import numpy as np

ROWS, COLUMNS = {rows}, {columns}
weights = jnp.asarray(np.full((ROWS, COLUMNS), 0.5, np.float32))
variables = {{"params": {{"kernel": weights, "bias": jnp.zeros(COLUMNS)}}}}
x = jnp.ones((1, ROWS))

def native():
    abstract = nnx.eval_shape(lambda: nnx.Linear(ROWS, COLUMNS, rngs=nnx.Rngs(0)))
    graphdef, _ = nnx.split(abstract)
    params = {{name: nnx.Param(value) for name, value in variables["params"].items()}}
    layer = nnx.merge(graphdef, nnx.State(params))
    return lambda: layer(x)

def bridged(bridge):
    model = bridge.ToLinen(nnx.Linear, args=(ROWS, COLUMNS))
    return lambda: model.apply(variables, x)

make = {{
    "native": native,
    "upstream": lambda: bridged(nnx.bridge),
    "ours": lambda: bridged(nnx_wrappers),
}}
call = make["{contender}"]()

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

jnp.zeros((8, 8)) @ jnp.ones((8, 8))  # what XLA keeps for itself
with open("/proc/self/clear_refs", "w") as clear:
    clear.write("5")
jax.block_until_ready(call())
print(peak())
"""

IMPORT = """
import time
import flax.nnx, flax.linen, flax.nnx.bridge
start = time.perf_counter()
import nnx_wrappers
print(time.perf_counter() - start)
"""

# All of Python's memory comes from malloc here, whose own count is exact.
PLANS = """
import ctypes, gc
import nnx_wrappers
from benchmarks import real_models_linear as linear

class Counts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]

libc = ctypes.CDLL("libc.so.6")
libc.mallinfo2.restype = Counts

def used():
    gc.collect()
    counts = libc.mallinfo2()
    return counts.uordblks + counts.hblkhd

linear.eager({layers})()
before = used()
nnx_wrappers.clear_caches()
print(before - used())
"""


def run(code: str, **environment: str) -> float:
    """What a fresh process prints as its last line."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    return float(done.stdout.split()[-1])


def memory_of_plans(layers: int) -> dict[str, float]:
    """The bytes of the plan of a model, and of four with a quarter of its layers each."""
    whole, quarter = (
        run(PLANS.format(layers=count), PYTHONMALLOC="malloc") for count in (layers, layers // 4)
    )
    return {"native": 4 * quarter, "ours": whole}


def peak_memory(mebibytes: int = 512) -> dict[str, float]:
    """The peak memory of one eager call with weights of that size, in KiB, by contender."""
    rows = 8192
    columns = mebibytes * 2**20 // 4 // rows
    return {
        contender: run(CALL.format(rows=rows, columns=columns, contender=contender))
        for contender in ("native", "upstream", "ours")
    }


def import_seconds(times: int = 5) -> float:
    """How long `import nnx_wrappers` takes after Flax: the shortest of some."""
    return min(run(IMPORT) for _ in range(times))
