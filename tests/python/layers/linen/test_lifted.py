"""Lifted transformations in a ToNNX: what Flax does, and the same program with a check that is
remembered as with one that runs each time."""

import functools
import json
import os
import re
import subprocess
import sys
import typing as tp

import jax
import jax.numpy as jnp
import pytest
from flax import core, errors, nnx
from flax import linen as nn
from flax.linen import module as linen_module

import nnx_wrappers
from support import ROOT
from support.planning import COUNTS, LOG

from ..compare import Bridge, assert_agree, outcome
from .case import Case
from .lifted import KINDS, LIFTED, LIFTS, Lifts, X
from .modes import MODES, fresh_model, model

# Every kind is called; those with the most in them are used in other ways too.
MORE_MODES = ("jax_grad", "mutable_true", "inside_linen", "capture_intermediates")
TABLE = [
    pytest.param(case, mode, id=f"{case}-{mode}")
    for case in LIFTED
    for mode in ("call_twice", *MORE_MODES)
    if mode == "call_twice" or case.name.endswith(("Stateful", "Boxed"))
]


def expected_error(mode: str, case: Case) -> type[Exception] | None:
    """The error that Flax raises too, or None."""
    if mode == "jax_grad" and case.name.startswith("while_loop"):
        return ValueError  # JAX has no gradient of it
    if mode == "jax_grad" and case.name == "custom_vjp-Stateful":
        return jax.errors.UnexpectedTracerError
    return None


@pytest.mark.shared("case", "mode")
@pytest.mark.parametrize(("case", "mode"), TABLE)
def test_does_what_flax_does(case: Case, mode: str) -> None:
    with case.context():
        reference = outcome(MODES[mode], nnx.bridge, case)
        mine = outcome(MODES[mode], nnx_wrappers, case)
    assert_agree(mine, reference, expected_error(mode, case))


# Programs.


Split = tuple[nnx.GraphDef, nnx.State]


def split_model(case: Case) -> Split:
    """A ToNNX in parts, with abstract values."""
    return nnx.split(nnx.eval_shape(lambda: fresh_model(nnx_wrappers, case)))


def program(parts: Split) -> str:
    """The program of a call that may change every collection but the parameters."""
    graphdef, state = parts

    def call(state: nnx.State, x: jax.Array) -> tp.Any:
        module = nnx.merge(graphdef, state)
        return module(x), nnx.state(module)

    return re.sub(r"0x[0-9a-f]+", "", str(jax.make_jaxpr(call)(state, X)))


def programs() -> dict[str, list[str]]:
    """Of each case with boxes, state or a field the programs of three traces."""
    nnx_wrappers.clear_caches()
    made = {}
    for case in LIFTED:
        if not case.name.endswith(("Boxed", "Stateful", "Holds")):
            continue
        with case.context():
            parts = split_model(case)
            made[case.name] = [program(parts) for _ in range(3)]
    return made


@functools.cache
def programs_without(features: str) -> dict[str, list[str]]:
    code = (
        "import json; from layers.linen.test_lifted import programs; print(json.dumps(programs()))"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "NNX_WRAPPERS_DISABLE": features},
        cwd=ROOT / "tests/python",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout)


def test_each_trace_is_the_same_program_with_the_features_on_and_off() -> None:
    made = programs()
    assert {name: len(set(texts)) for name, texts in made.items()} == dict.fromkeys(made, 1)
    assert made == programs_without("lifted_scopes,native_scopes,shape_checks")


# What is checked.


def error_in(bridge: Bridge, case: Case) -> tp.Any:
    """The error of a call whose parameters inside of the transformation have another shape."""
    module = model(bridge, case)
    first = outcome(module, X)
    for path, variable in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        if path[0] not in ("before", "after"):
            longer = jax.tree.map(lambda x: jnp.concatenate([x] * 2, -1), variable.get_raw_value())
            variable.set_raw_value(longer)
    return first, [outcome(module, X) for _ in range(2)]


@pytest.mark.shared("case")
@pytest.mark.parametrize(
    "case", [c for c in LIFTED if c.name.endswith(("Dense", "Boxed"))], ids=str
)
def test_a_wrong_shape_inside_is_flax_s_error(case: Case) -> None:
    with case.context():
        _, reference = error_in(nnx.bridge, case)
        _, mine = error_in(nnx_wrappers, case)
    for result, expected in zip(mine, reference, strict=True):
        assert_agree(result, expected, errors.ScopeParamShapeError)


class Traced(nn.Module):
    """Tells when its initializer is traced."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.param("w", Traced.init, (4, 4))

    @staticmethod
    def init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        LOG.info("traced")
        return jax.random.normal(key, shape)


class TracedInSetup(nn.Module):
    """The same, by a parameter that is made in `setup` and a module there."""

    def setup(self) -> None:
        self.inner = Traced()
        self.w = self.param("w", Traced.init, (4, 4))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.inner(x @ self.w)


def runs_without_check(linen: nn.Module, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often Linen runs initializers in `apply` for something else than its shape check."""

    flax_s = core.Scope.param

    def param(scope: core.Scope, name: str, *args: tp.Any, **kwargs: tp.Any) -> jax.Array:
        if not scope.has_variable("params", name):
            return flax_s(scope, name, *args, **kwargs)  # Linen tries `setup` before it lifts it
        return scope.get_variable("params", name)

    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = jax.eval_shape(linen.init, keys, X)
    before = COUNTS["traced"]
    with monkeypatch.context() as patch:
        patch.setattr(core.Scope, "param", param)
        jax.make_jaxpr(linen.apply)(variables, X)
    return COUNTS["traced"] - before


@pytest.mark.feature("lifted_scopes", "shape_checks")
@pytest.mark.parametrize("make", [Traced, TracedInSetup])
@pytest.mark.parametrize("body", LIFTS.values(), ids=LIFTS)
def test_initializers_inside_are_not_traced_again(
    body: tp.Any, make: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    build = functools.partial(Lifts, body, make)
    parts = split_model(Case("", build, (X,), streams=("params", "dropout")))
    program(parts)
    expected = runs_without_check(build(), monkeypatch)
    before = COUNTS["traced"]
    program(parts)
    assert COUNTS["traced"] - before == expected <= 1


# What others see.


@pytest.mark.parametrize("body", LIFTS.values(), ids=LIFTS)
def test_interceptors_see_what_they_see_in_flax(body: tp.Any) -> None:
    build = functools.partial(Lifts, body, KINDS["InSetup"])
    case, seen = Case("", build, (X,), streams=("params", "dropout")), []

    def interceptor(call: tp.Any, args: tp.Any, kwargs: tp.Any, context: tp.Any) -> tp.Any:
        module = context.module
        seen.append((type(module).__name__, context.method_name, module.path, module.scope.path))
        return call(*args, **kwargs)

    calls = []
    for bridge in (nnx.bridge, nnx_wrappers, nnx_wrappers):
        made = model(bridge, case)
        seen.clear()
        with nn.intercept_methods(interceptor):
            made(X)
        calls.append(list(seen))
    assert len(calls[0]) > 5
    assert calls[1] == calls[0]
    assert calls[2] == calls[0]


def test_the_stack_of_modules_is_linen_s_own_after_a_call_and_after_an_error() -> None:
    class Fails(nn.Module):
        fail: bool

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = nn.remat(nn.Dense)(4)(x)
            if self.fail:
                raise KeyError("stop")
            return x

    stack = linen_module._context.module_stack
    for fail in (False, True):
        module = nnx_wrappers.ToNNX(Fails(False), rngs=nnx.Rngs(0)).lazy_init(X)
        module.to_nnx__module = Fails(fail)
        assert (type(outcome(module, X).error) is KeyError) if fail else module(X).shape == X.shape
        assert linen_module._context.module_stack is stack
        assert stack == [None]


def test_a_module_bound_elsewhere_keeps_its_scope() -> None:
    bound = nn.Dense(4).bind(nn.Dense(4).init(jax.random.key(0), X))

    class Calls(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return nn.remat(nn.Dense)(4)(bound(x))

    module = nnx_wrappers.ToNNX(Calls(), rngs=nnx.Rngs(0)).lazy_init(X)
    assert module(X).shape == X.shape
    assert type(bound.scope) is core.Scope
