"""`install()` and MaxText: imported before, later, never. A small tree stands in for it."""

import importlib
import importlib.util
import inspect
import logging
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from flax import nnx

import nnx_wrappers

NAME = "maxtext.layers.nnx_wrappers"
WRAPPERS = """
    from flax.nnx.bridge import ToNNX, to_linen

    FLAG = "a flag of MaxText"

    class ToLinen:
        "MaxText's own."

    def to_linen_class():
        "MaxText's own."

    def helper():
        return ToNNX, ToLinen
"""
ATTENTION = """
    from maxtext.layers import nnx_wrappers
    from maxtext.layers.nnx_wrappers import ToLinen, helper, to_linen_class

    class Attention(ToLinen):
        pass
"""
IMPORTS = {
    "import": "import maxtext.layers.nnx_wrappers as module",
    "from": "from maxtext.layers import nnx_wrappers as module",
    "importlib": f"import importlib; module = importlib.import_module('{NAME}')",
}

pytestmark = [
    # The modules of other tests hold Flax's classes.
    pytest.mark.filterwarnings("ignore:nnx_wrappers.install.. came late"),
    pytest.mark.usefixtures("no_maxtext"),
]


def forget_maxtext() -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "maxtext"]:
        del sys.modules[name]


@pytest.fixture
def no_maxtext() -> Iterator[None]:
    assert importlib.util.find_spec("maxtext") is None
    yield
    nnx_wrappers.install().restore()
    forget_maxtext()


@pytest.fixture
def layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder maxtext/layers of a tree on the path."""
    folder = tmp_path / "maxtext" / "layers"
    folder.mkdir(parents=True)
    for package in (folder.parent, folder):
        (package / "__init__.py").write_text("")
    write(folder / "nnx_wrappers.py", WRAPPERS)
    write(folder / "attention.py", ATTENTION)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # tests rewrite files
    return folder


def write(path: Path, text: str) -> None:
    path.write_text(textwrap.dedent(text))
    importlib.invalidate_caches()


def do_import(statement: str):
    names: dict = {}
    exec(statement, names)
    return names["module"]


@pytest.mark.parametrize("how", IMPORTS)
def test_imported_later_it_has_our_names_and_stays_itself(layers: Path, how: str) -> None:
    with nnx_wrappers.install() as installation:
        module = do_import(IMPORTS[how])
        for name in ("ToNNX", "ToLinen", "to_linen", "to_linen_class"):
            assert getattr(module, name) is getattr(nnx_wrappers, name)
        assert module is sys.modules[NAME] is sys.modules["maxtext.layers"].nnx_wrappers
        assert module.FLAG == "a flag of MaxText"
        assert module.helper() == (nnx_wrappers.ToNNX, nnx_wrappers.ToLinen)
        assert not hasattr(module, "functional")  # only names that it has
        assert module.__file__ == str(layers / "nnx_wrappers.py")
        assert module.__spec__.origin == module.__file__
        assert module.__loader__ is module.__spec__.loader
        assert isinstance(module.__loader__, importlib.machinery.SourceFileLoader)
        assert "MaxText's own" in inspect.getsource(module)
        assert inspect.getsource(module.helper).startswith("def helper")
        # ToNNX and to_linen came from flax.nnx.bridge, and are ours already.
        assert installation.replaced()[NAME] == ["ToLinen", "to_linen_class"]
    assert module.ToLinen.__doc__ == module.to_linen_class.__doc__ == "MaxText's own."


def test_importing_it_is_logged_and_in_the_repr(
    layers: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with nnx_wrappers.install() as installation:
        assert repr(installation).endswith("; maxtext.layers.nnx_wrappers when it is imported>")
        with caplog.at_level(logging.INFO, logger="nnx_wrappers"):
            importlib.import_module(NAME)
        listed = "maxtext.layers.nnx_wrappers (ToLinen, to_linen_class)"
        assert [r.getMessage().endswith(listed) for r in caplog.records] == [True]
        assert repr(installation).endswith(f"{listed}>")


def test_imported_before_it_is_replaced_and_its_users_are_named(layers: Path) -> None:
    module = importlib.import_module(NAME)
    attention = importlib.import_module("maxtext.layers.attention")
    before = dict(vars(module))
    with pytest.warns(UserWarning, match="came late") as caught:
        installation = nnx_wrappers.install()
    text = str(caught[0].message)
    assert "maxtext.layers.attention (ToLinen, to_linen_class, Attention)" in text
    assert f"{NAME} (" not in text
    assert module.ToNNX is nnx_wrappers.ToNNX
    assert module.ToLinen is attention.nnx_wrappers.ToLinen is nnx_wrappers.ToLinen
    assert attention.ToLinen is before["ToLinen"]
    assert attention.helper() == (nnx_wrappers.ToNNX, nnx_wrappers.ToLinen)
    installation.restore()
    assert dict(vars(module)) == before
    assert sys.modules[NAME] is module


def test_users_imported_later_get_ours_without_a_warning(layers: Path) -> None:
    with nnx_wrappers.install():
        attention = importlib.import_module("maxtext.layers.attention")
        assert issubclass(attention.Attention, nnx_wrappers.ToLinen)


def test_reloading_gets_ours_again(layers: Path) -> None:
    with nnx_wrappers.install() as installation:
        module = importlib.import_module(NAME)
        write(layers / "nnx_wrappers.py", WRAPPERS.replace("a flag", "another flag"))
        assert importlib.reload(module) is module
        assert module.FLAG == "another flag of MaxText"
        assert module.ToLinen is nnx_wrappers.ToLinen
        assert installation.replaced()[NAME] == ["ToLinen", "to_linen_class"]
        assert isinstance(module.__loader__, importlib.machinery.SourceFileLoader)
    assert module.ToLinen.__doc__ == "MaxText's own."


def test_find_spec_imports_nothing_and_the_import_still_works(layers: Path) -> None:
    importlib.import_module("maxtext.layers")
    with nnx_wrappers.install():
        spec = importlib.util.find_spec(NAME)
        assert spec is not None
        assert spec.origin == str(layers / "nnx_wrappers.py")
        assert NAME not in sys.modules
        assert importlib.import_module(NAME).ToLinen is nnx_wrappers.ToLinen


def test_after_restore_it_is_imported_untouched(layers: Path) -> None:
    nnx_wrappers.install().restore()
    module = importlib.import_module(NAME)
    assert module.ToLinen.__doc__ == "MaxText's own."
    assert module.ToNNX is nnx.bridge.ToNNX is not nnx_wrappers.ToNNX


def test_an_error_of_its_import_passes_and_the_next_import_works(layers: Path) -> None:
    write(layers / "nnx_wrappers.py", "raise RuntimeError('broken')")
    with nnx_wrappers.install():
        for _ in range(2):
            with pytest.raises(RuntimeError, match="broken"):
                importlib.import_module(NAME)
            assert NAME not in sys.modules
        write(layers / "nnx_wrappers.py", WRAPPERS)
        assert importlib.import_module(NAME).ToLinen is nnx_wrappers.ToLinen


@pytest.mark.parametrize("missing", ["nnx_wrappers.py", "layers"])
def test_maxtext_without_this_module_fails_as_it_does_without_us(
    layers: Path, missing: str
) -> None:
    if missing == "layers":
        layers.rename(layers.parent / "elsewhere")
    else:
        (layers / missing).unlink()
    importlib.invalidate_caches()
    with pytest.raises(ModuleNotFoundError) as expected:
        importlib.import_module(NAME)
    forget_maxtext()
    with nnx_wrappers.install():
        with pytest.raises(ModuleNotFoundError) as raised:
            importlib.import_module(NAME)
    assert (raised.value.name, str(raised.value)) == (expected.value.name, str(expected.value))


@pytest.mark.parametrize("how", IMPORTS)
def test_where_there_is_no_maxtext_the_module_is_made(how: str) -> None:
    modules = set(sys.modules)
    with nnx_wrappers.install() as installation:
        module = do_import(IMPORTS[how])
        assert nnx_wrappers.ToLinen is module.ToLinen
        for name in set(nnx_wrappers.__all__) & set(vars(nnx_wrappers)):  # others come on demand
            assert getattr(module, name) is getattr(nnx_wrappers, name)
        assert "made by nnx_wrappers.install()" in repr(module)
        assert repr(installation).endswith("with_partitioning)>")  # it is there now
    assert set(sys.modules) == modules
    with pytest.raises(ModuleNotFoundError, match="No module named 'maxtext'"):
        importlib.import_module("maxtext")


def test_nothing_else_of_maxtext_is_made() -> None:
    with nnx_wrappers.install():
        for name in ("maxtext.layers.attention", "maxtext.utils", "MaxText"):
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module(name)


def test_a_second_installation_makes_the_module_anew() -> None:
    with nnx_wrappers.install():
        first = importlib.import_module(NAME)
    with nnx_wrappers.install():
        second = importlib.import_module(NAME)
        assert second is not first
        assert second.ToNNX is nnx_wrappers.ToNNX
