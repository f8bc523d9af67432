"""Graphs and trees that are deep end in a RecursionError, never a crash; wide ones work.

What could end the interpreter runs in one of its own.
"""

import os
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import pytest
from flax import nnx

import nnx_wrappers as nw
from support.effort import LONG

X = jnp.ones((1, 3))


@pytest.mark.parametrize("wide", ["attributes", "list", "dict"])
def test_a_wide_graph(wide):
    count = 1_000_000 if LONG else 100_000
    names = [f"v{i}" for i in range(count)]
    if wide == "attributes":
        variables = nw.nnx_attrs_to_linen_vars(dict.fromkeys(names, nnx.Param(X)))
        attrs = nw.linen_vars_to_nnx_attrs(variables)
        assert len(attrs) == count
        return

    class Model(nnx.Module):
        def __init__(self):
            values = [X] * count
            self.values = nnx.data(values if wide == "list" else dict.fromkeys(names, X))

        def __call__(self, x):
            return x

    model = nw.lazy_init(Model(), X)
    assert len(model.values) == count


DEEP = """
    import os, sys, threading
    import jax, jax.numpy as jnp
    from flax import linen as nn, nnx
    import nnx_wrappers as nw

    LEVELS = 100_000
    x = jnp.ones((1, 3))
    key = jax.random.key(0)

    class Deep(nnx.Module):
        def __call__(self, x):
            return x

    def nested(leaf, levels=LEVELS):
        for _ in range(levels):
            leaf = {"a": leaf}
        return leaf

    template = Deep()
    template.child = chain = Deep()
    for _ in range(LEVELS):  # no constructor: 100,000 take long
        above = object.__new__(Deep)
        vars(above).update(vars(template), child=chain)
        chain = above
    with_attribute = nw.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))
    vars(with_attribute)["extra"] = nested(1, 10 * LEVELS)

    tuples = ()
    for _ in range(10 * LEVELS):
        tuples = (tuples,)

    def closing_over(value):
        return lambda: value

    def constructor(argument, rngs):
        raise AssertionError

    CASES = {
        "lazy_init": lambda: nw.lazy_init(chain, x),
        "init": lambda: nw.ToLinen(lambda rngs: chain).init(key, x),
        "attributes": lambda: nw.nnx_attrs_to_linen_vars(nested(nnx.Param(x))),
        "variables": lambda: nw.linen_vars_to_nnx_attrs({"params": nested(x)}),
        "apply": lambda: nw.ToLinen(Deep).apply({"params": nested(x)}, x),
        "arguments": lambda: nw.ToLinen(constructor, args=(nested(1),)).apply({}, x),
        "attribute": lambda: with_attribute.nothing,
        "closure": lambda: nw.ToLinen(constructor, args=(closing_over(tuples),)).apply({}, x),
    }

    def run():
        for name in sys.argv[2:]:
            print(name, flush=True)
            try:
                CASES[name]()
            except RecursionError:
                print("RecursionError", flush=True)
        os._exit(0)

    if sys.argv[1] != "0":
        threading.stack_size(int(sys.argv[1]) * 1024)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
"""
DEEP_CASES = [
    *("lazy_init", "init", "attributes", "variables", "apply", "arguments", "attribute"),
]


def assert_says(wanted, program, *arguments):
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert result.stdout == wanted, (result.returncode, result.stderr[-2000:])


def assert_all_are_too_deep(stack, cases, program=DEEP):
    wanted = "".join(f"{case}\nRecursionError\n" for case in cases)
    assert_says(wanted, program, str(stack), *cases)


@pytest.mark.parametrize("stack", [0, 1024] if LONG else [1024])
def test_what_is_too_deep_is_a_recursion_error(stack):
    """On the usual stack of a thread, and on one of a megabyte."""
    assert_all_are_too_deep(stack, DEEP_CASES)


@pytest.mark.parametrize("stack", [0, 1024] if LONG else [1024])
def test_a_constructor_with_too_deep_a_closure_is_not_planned(stack):
    assert_says("closure\n", DEEP, str(stack), "closure")


def test_the_interpreters_limit_may_be_lifted():
    """On Python 3.11 it also counted the levels of extensions."""
    lifted = DEEP.replace("LEVELS = 100_000", "LEVELS = 100_000; sys.setrecursionlimit(10**9)")
    assert lifted != DEEP
    assert_all_are_too_deep(0, ["attributes", "variables", "attribute"], lifted)


@pytest.mark.feature("plans")
def test_a_plan_may_be_used_on_a_smaller_stack_than_it_was_made_on():
    program = """
        import sys, threading
        import jax, jax.numpy as jnp
        from flax import nnx
        import nnx_wrappers as nw

        x = jnp.ones((1, 3))
        sys.setrecursionlimit(20_000)

        class Keeps(nnx.Module):
            def __init__(self, levels, rngs):
                self.linear = nnx.Linear(3, 3, rngs=rngs)
                nested = 0
                for _ in range(levels):
                    nested = [nested]
                object.__setattr__(self, "nested", nested)

            def __call__(self, x):
                return self.linear(x)

        def run():
            try:
                model.apply(variables, x)
                print("works")
            except RecursionError:
                print("RecursionError")

        model = nw.ToLinen(Keeps, args=(int(sys.argv[1]),))
        variables = model.init(jax.random.key(0), x)
        model.apply(variables, x)
        assert nw.cache_info()["plans"]["size"] == 1, nw.cache_info()
        threading.stack_size(256 * 1024)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    """
    for levels, outcome in (("10", "works"), ("8000", "RecursionError")):
        assert_says(f"{outcome}\n", program, levels)
