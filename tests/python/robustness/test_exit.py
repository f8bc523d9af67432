"""A program that uses this package prints nothing when it ends."""

import subprocess
import sys
import textwrap

import pytest

USE = """
    x = jnp.ones((1, 2))

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(2, 2, rngs=rngs)

        def __call__(self, x):
            return self.linear(x)
"""
PROGRAMS = {
    "installed": "installation = nnx_wrappers.install()",
    "restored": "installation = nnx_wrappers.install(); installation.restore()",
    # JAX keeps every class of a module, and so the handle, beyond the end of Python.
    "installed, held by a class": """
        class Net(nnx.Module):
            installation = nnx_wrappers.install()
    """,
    "restored, held by globals of a class": """
        code = "class Net(nnx.Module):\\n  def __call__(self): pass"
        names = {"nnx": nnx}
        with nnx_wrappers.install() as names["installation"]:
            exec(code, names)
    """,
    "a plan and a recording": USE
    + """
    nnx_wrappers.record_usage(True)
    model = nnx_wrappers.ToLinen(Net)
    model.apply(model.init(jax.random.key(0), x), x)
    assert nnx_wrappers.cache_info()["plans"]["size"] == 1
    assert nnx_wrappers.usage()
    """,
    "a Linen module, while installed": USE
    + """
    class Both(nnx.Module):
        installation = nnx_wrappers.install()

        def __init__(self, rngs):
            self.dense = nnx.bridge.ToNNX(nn.Dense(2), rngs=rngs)

        def __call__(self, x):
            return self.dense(x)

    model = nnx.bridge.lazy_init(Both(nnx.Rngs(0)), x)
    model(x)
    linen = nnx.bridge.ToLinen(Both)
    linen.apply(linen.init(jax.random.key(0), x), x)
    """,
}
IMPORTS = """
    import jax
    import jax.numpy as jnp
    from flax import linen as nn
    from flax import nnx

    import nnx_wrappers
"""


@pytest.mark.feature("plans")
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_prints_nothing_when_it_ends(program: str) -> None:
    code = textwrap.dedent(IMPORTS) + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ctrl_c_while_flax_is_imported_stays_one():
    program = """
        import sys

        class Interrupts:
            def find_spec(self, name, path=None, target=None):
                if name == "flax.nnx":
                    raise KeyboardInterrupt

        sys.meta_path.insert(0, Interrupts())
        try:
            import nnx_wrappers
        except BaseException as error:
            print(type(error).__name__)
    """
    code = textwrap.dedent(program)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "KeyboardInterrupt"
