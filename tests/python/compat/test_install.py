"""`install()` in the place of the names of flax.nnx.bridge; MaxText is in test_install_maxtext."""

import logging
import pickle
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from typing import Any

import flax.nnx.bridge
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

import nnx_wrappers
from support.oracle import assert_same, assert_same_module

X = jnp.arange(6.0).reshape(2, 3)
KEY = jax.random.key(0)
THEIRS = {
    name: getattr(nnx.bridge, name) for name in nnx_wrappers.__all__ if hasattr(nnx.bridge, name)
}

pytestmark = [
    # The modules of other tests hold Flax's classes.
    pytest.mark.filterwarnings("ignore:nnx_wrappers.install.. came late"),
    pytest.mark.usefixtures("as_before"),
]


def bridge_modules() -> dict[str, types.ModuleType]:
    prefix = "flax.nnx.bridge"
    return {
        name: module
        for name, module in sys.modules.items()
        if name == prefix or name.startswith(prefix + ".")
    }


def interpreter() -> dict[str, Any]:
    """What an installation may change."""
    contents = {name: dict(vars(module)) for name, module in bridge_modules().items()}
    return {**contents, "meta_path": list(sys.meta_path), "modules": dict(sys.modules)}


def assert_identical(now: dict[str, Any], before: dict[str, Any]) -> None:
    assert now.keys() == before.keys()
    for part, then in before.items():
        if isinstance(then, list):
            assert [id(x) for x in now[part]] == [id(x) for x in then], part
        else:
            changed = {k for k in now[part] | then if now[part].get(k) is not then.get(k)}
            assert changed == set(), part


@pytest.fixture
def as_before() -> Iterator[None]:
    """No test leaves anything replaced."""
    before = interpreter()
    yield
    nnx_wrappers.install().restore()
    now = interpreter()
    for part in (before, now):  # JAX and this package import some modules when they are used
        part["modules"] = {k: v for k, v in part["modules"].items() if k.startswith("maxtext")}
    assert_identical(now, before)


def is_installed() -> bool:
    return nnx.bridge.ToNNX is nnx_wrappers.ToNNX


def test_every_name_that_the_package_has_is_replaced_and_the_rest_is_not() -> None:
    before = interpreter()
    installation = nnx_wrappers.install()
    replaced: dict[str, list[str]] = {}
    for module_name, module in bridge_modules().items():
        for name, value in vars(module).items():
            if name in nnx_wrappers.__all__:
                assert value is getattr(nnx_wrappers, name), f"{module_name}.{name}"
                replaced.setdefault(module_name, []).append(name)
            else:
                assert value is before[module_name][name], f"{module_name}.{name}"
    assert {k: sorted(v) for k, v in installation.replaced().items()} == {
        k: sorted(v) for k, v in replaced.items()
    }
    assert {"ToNNX", "ToLinen", "to_linen", "NNXMeta", "lazy_init"} <= set(
        replaced["flax.nnx.bridge"]
    )
    assert "to_linen_class" in replaced["flax.nnx.bridge.wrappers"]
    assert "to_nnx_var" in replaced["flax.nnx.bridge.variables"]


def test_restore_leaves_everything_identical() -> None:
    before = interpreter()
    installation = nnx_wrappers.install()
    assert len(sys.meta_path) == len(before["meta_path"]) + 1
    installation.restore()
    assert_identical(interpreter(), before)
    assert installation.replaced() == {}


def test_a_with_block_restores_also_after_an_error() -> None:
    with nnx_wrappers.install() as installation:
        assert is_installed()
        assert "flax.nnx.bridge" in installation.replaced()
    assert not is_installed()
    with pytest.raises(KeyError):
        with nnx_wrappers.install():
            raise KeyError("mine")
    assert not is_installed()


def test_only_the_outermost_block_restores() -> None:
    with nnx_wrappers.install():
        with nnx_wrappers.install():
            with nnx_wrappers.install():
                pass
            assert is_installed()
        assert is_installed()
    assert not is_installed()


def test_a_block_inside_an_installed_program_does_not_restore() -> None:
    installation = nnx_wrappers.install()
    for _ in range(2):
        with nnx_wrappers.install():
            assert is_installed()
        assert is_installed()
    installation.restore()
    assert not is_installed()


def test_a_block_after_such_a_program_restores_again() -> None:
    nnx_wrappers.install()
    with nnx_wrappers.install() as installation:
        installation.restore()
        assert not is_installed()
    with nnx_wrappers.install():
        assert is_installed()
    assert not is_installed()


def test_installing_twice_changes_nothing_more() -> None:
    first = nnx_wrappers.install()
    once, names = interpreter(), first.replaced()
    second = nnx_wrappers.install()
    assert_identical(interpreter(), once)
    assert second.replaced() == names
    assert repr(second) == repr(first)


def test_restoring_twice_is_restoring_once() -> None:
    before = interpreter()
    first, second = nnx_wrappers.install(), nnx_wrappers.install()
    first.restore()
    second.restore()
    first.restore()
    assert_identical(interpreter(), before)


def test_install_after_restore_replaces_again() -> None:
    installation = nnx_wrappers.install()
    names = installation.replaced()
    installation.restore()
    again = nnx_wrappers.install()
    assert is_installed()
    assert again.replaced() == names
    assert installation.replaced() == names  # every handle is the one installation
    installation.restore()
    assert not is_installed()


def test_a_name_that_somebody_patched_since_is_left_alone() -> None:
    original = flax.nnx.bridge.wrappers.ToNNX
    mine = object()
    installation = nnx_wrappers.install()
    flax.nnx.bridge.wrappers.ToNNX = mine
    installation.restore()
    assert flax.nnx.bridge.wrappers.ToNNX is mine
    assert nnx.bridge.ToNNX is original
    flax.nnx.bridge.wrappers.ToNNX = original


def test_a_name_that_somebody_deleted_since_stays_deleted() -> None:
    original = flax.nnx.bridge.wrappers.ToNNX
    installation = nnx_wrappers.install()
    del flax.nnx.bridge.wrappers.ToNNX
    installation.restore()
    assert not hasattr(flax.nnx.bridge.wrappers, "ToNNX")
    assert nnx.bridge.ToNNX is original
    flax.nnx.bridge.wrappers.ToNNX = original


def test_our_finder_may_be_gone_from_the_meta_path_already() -> None:
    installation = nnx_wrappers.install()
    sys.meta_path.pop(0)
    installation.restore()
    assert not is_installed()


def late_module(monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that took Flax's classes before."""
    module = types.ModuleType("a_late_module")
    module.Wrapper = THEIRS["ToNNX"]
    module.make = THEIRS["to_linen"]
    module.Derived = type("Derived", (THEIRS["ToLinen"],), {})
    module.Other = nnx.Linear
    module.Ours = nnx_wrappers.NNXMeta  # made of Flax's class, and it is ours
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.__name__


def test_coming_late_is_a_warning_with_modules_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    name = late_module(monkeypatch)
    with pytest.warns(UserWarning, match="came late") as caught:
        nnx_wrappers.install()
    assert len(caught) == 1
    text = str(caught[0].message)
    assert f"{name} (Wrapper, make, Derived)" in text
    assert text.endswith("Call install() before they are imported.")
    assert "nnx_wrappers._" not in text
    assert "flax.nnx.bridge" not in text
    assert caught[0].filename == __file__
    assert sys.modules[name].Wrapper is THEIRS["ToNNX"]


def test_the_second_install_does_not_warn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    late_module(monkeypatch)
    with pytest.warns(UserWarning, match="came late"):
        nnx_wrappers.install()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nnx_wrappers.install()


def test_nothing_stays_replaced_where_the_warning_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late_module(monkeypatch)
    before = interpreter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="came late"):
            with nnx_wrappers.install():
                pytest.fail("the block must not run")
    assert_identical(interpreter(), before)
    with nnx_wrappers.install():  # and it can be done later
        assert is_installed()
    assert not is_installed()


def test_the_log_says_what_was_replaced(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="nnx_wrappers"):
        installation = nnx_wrappers.install()
        nnx_wrappers.install()
        parts = [f"{m} ({', '.join(names)})" for m, names in installation.replaced().items()]
        installation.restore()
        installation.restore()
    listed = "; ".join(parts)
    later = "maxtext.layers.nnx_wrappers is replaced when it is imported"
    assert caplog.record_tuples == [
        ("nnx_wrappers", logging.INFO, f"in place of {listed}; {later}"),
        ("nnx_wrappers", logging.INFO, "restored"),
    ]


def test_the_repr_says_what_is_replaced_and_when_it_is_not() -> None:
    installation = nnx_wrappers.install()
    parts = [f"{m} ({', '.join(names)})" for m, names in installation.replaced().items()]
    assert repr(installation) == (
        f"<nnx_wrappers.install(): in place of {'; '.join(parts)};"
        " maxtext.layers.nnx_wrappers when it is imported>"
    )
    installation.restore()
    assert repr(installation) == "<nnx_wrappers.install(): all restored>"


def test_what_replaced_returns_is_a_copy() -> None:
    installation = nnx_wrappers.install()
    installation.replaced()["flax.nnx.bridge"].clear()
    assert "ToNNX" in installation.replaced()["flax.nnx.bridge"]


def test_a_thread_installs_for_the_process() -> None:
    handles = []
    thread = threading.Thread(target=lambda: handles.append(nnx_wrappers.install()))
    thread.start()
    thread.join()
    assert is_installed()
    handles[0].restore()
    assert not is_installed()


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.LayerNorm()(nn.Dense(3)(x))
        return nnx.bridge.to_linen(nnx.Linear, 3, 3, name="nnx")(x)


class Program(nnx.Module):
    """A program that spells its wrappers `nnx.bridge.*`."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.inner = nnx.bridge.ToNNX(Inner(), rngs=rngs)
        nnx.bridge.lazy_init(self.inner, X)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.inner(x)


def run_program() -> tuple[Any, Any, Any]:
    model = Program(nnx.Rngs(0))
    outer = nnx.bridge.ToLinen(nnx.Linear, args=(3, 2))
    variables = outer.init(KEY, X)
    values = jax.tree.map(lambda x: x, nn.meta.unbox(variables))
    return model, values, (model(X), outer.apply(variables, X))


def test_a_program_with_the_names_of_flax_gives_equal_bits() -> None:
    model, variables, outputs = run_program()
    assert type(model.inner) is THEIRS["ToNNX"]
    with nnx_wrappers.install():
        our_model, our_variables, our_outputs = run_program()
    assert type(our_model.inner) is nnx_wrappers.ToNNX
    assert_same(our_outputs, outputs)
    assert_same(our_variables, variables)
    assert_same_module(our_model, model)


class Bridged(nnx.bridge.Module):
    """Flax's own bridge module with a Linen and an NNX module inside."""

    @nnx.bridge.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.bridge.linen_in_bridge_mdl(nn.Dense(4))(x)
        x = nnx.bridge.nnx_in_bridge_mdl(lambda rngs: nnx.Linear(4, 2, rngs=rngs))(x)
        return nnx.bridge.linen_in_bridge_mdl(nn.Dropout(0.5, deterministic=False))(x)


def run_bridged() -> tuple[Any, Any]:
    model = Bridged()
    keys = {"params": KEY, "dropout": jax.random.key(1)}
    variables = model.init(keys, X)
    return variables, model.apply(variables, X, rngs=keys)


def test_the_modules_of_flaxs_bridge_give_the_same_values() -> None:
    variables, output = run_bridged()
    with nnx_wrappers.install():
        our_variables, our_output = run_bridged()
    assert_same(our_output, output)
    assert_same(nn.meta.unbox(our_variables), nn.meta.unbox(variables))


def boxed(bridge: Any) -> Any:
    init = nnx.with_metadata(nnx.initializers.ones_init(), mine="kept")
    variables = bridge.to_linen(nnx.Linear, 3, 2, kernel_init=init).init(KEY, X)
    return variables["params"]["kernel"]


def test_pickled_boxes_go_in_and_out_of_an_installation() -> None:
    pickled = pickle.dumps(boxed(nnx_wrappers))
    with nnx_wrappers.install():
        inside = pickle.loads(pickled)
        assert type(inside) is nnx_wrappers.NNXMeta
        pickled_inside = pickle.dumps(boxed(nnx.bridge))
    outside = pickle.loads(pickled_inside)
    assert type(outside) is nnx_wrappers.NNXMeta
    assert_same(inside, outside)


def test_a_box_that_flax_pickled_is_ours_when_it_is_read() -> None:
    pickled = pickle.dumps(boxed(nnx.bridge))
    with nnx_wrappers.install():
        read = pickle.loads(pickled)
        assert type(read) is nnx_wrappers.NNXMeta
        assert (read.var_type, read.metadata["mine"]) == (nnx.Param, "kept")
    assert type(pickle.loads(pickled)) is THEIRS["NNXMeta"]
