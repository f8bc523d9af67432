"""The installed package with other libraries that bring a C++ runtime of their own: they are
imported in each order, and exceptions pass between Python, this library and theirs."""

import importlib.util
import itertools
import subprocess
import sys

import pytest

ALWAYS = ("nnx_wrappers", "jax", "numpy")
OTHERS = [name for name in ("torch", "tensorflow") if importlib.util.find_spec(name)]
ORDERS = [
    *itertools.permutations(ALWAYS),
    *((other, *ALWAYS) for other in OTHERS),
    *((*ALWAYS, other) for other in OTHERS),
]
EXCEPTIONS = """
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

import nnx_wrappers

x = jnp.ones((2, 3))
key = jax.random.key(0)


def raised(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


class Fails(nnx.Module):
    def __init__(self, what, rngs):
        self.linear = nnx.Linear(3, 3, rngs=rngs)
        self.what = what

    def __call__(self, x):
        return self.what(self.linear(x))


def of_python(x):
    raise KeyError("of the user")


def of_jaxlib(x):
    # An exception of XLA's own C++ on its way through this library.
    result = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.block_until_ready(jax.jit(lambda y: jax.pure_callback(of_python, result, y))(x))


def of_this_library(x):
    return nnx_wrappers.ToNNX(nn.Dense)


# From Python through C++ to Python, from C++ to C++, and out of both at once.
for what, kind in ((of_python, KeyError), (of_jaxlib, Exception), (of_this_library, TypeError)):
    model = nnx_wrappers.ToLinen(Fails, args=(what,))
    error = raised(model.init, key, x)
    assert isinstance(error, kind), error
    text = "expected an instance of a Linen module" if what is of_this_library else "of the user"
    assert text in str(error), error

# Caught in C++, where something has to be undone.
to_nnx = nnx_wrappers.ToNNX(nn.Dense(2), rngs=nnx.Rngs(0))
assert isinstance(raised(to_nnx, x), nnx_wrappers.NotInitializedError)
assert isinstance(raised(to_nnx.lazy_init, "no array"), Exception)
assert nnx_wrappers.lazy_init(to_nnx, x)(x).shape == (2, 2)


def deeper(x):
    return nnx_wrappers.ToLinen(Fails, args=(deeper,)).init(key, x)


assert isinstance(raised(deeper, x), RecursionError)
print("all right")
"""


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_exceptions_pass_in_each_order_of_imports(order: tuple[str, ...]) -> None:
    program = "\n".join(f"import {name}" for name in order) + EXCEPTIONS
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "all right\n"), done.stderr[-2000:]
