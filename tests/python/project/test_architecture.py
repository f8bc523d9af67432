"""The rules of docs/explanation/architecture.md that a machine can check."""

import ast
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import flax.nnx.bridge
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

import nnx_wrappers

ROOT = Path(__file__).resolve().parents[3]
BRIDGE = ["report", "convert", "rng", "to_nnx", "plan", "to_linen", "compat"]
# Each may use those before it.
ROOMS = ["py", "upstream", "graph", *(f"bridge/{room}" for room in BRIDGE), "bindings"]
MAX_LINES = 400
INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
FLAX_BRIDGE = re.compile(r"\bnnx\.bridge[\w.:]*")

X = jnp.ones((1, 4))


def sources(*folders: str, ending: str = "") -> list[Path]:
    return [
        path
        for folder in folders
        for path in sorted((ROOT / folder).rglob(f"*{ending}"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


def room_of(path: Path) -> str:
    """The room of a file of src/: "py", or "bridge/convert"."""
    return room_of_folder(path.relative_to(ROOT / "src").parent.as_posix())


def room_of_folder(folder: str) -> str:
    """The dialect of older versions of Flax is a folder in the room that knows Flax."""
    return "upstream" if folder == "upstream/dialect" else folder


def room_of_public_header(name: str) -> str:
    """The room that implements a header of include/: where the .cc of its name is."""
    if name in ("nnx_wrappers.h", "version.h"):  # all of them; made by CMake
        return "bindings"
    implemented = [room for room in ROOMS if (ROOT / f"src/{room}/{name[:-2]}.cc").exists()]
    assert len(implemented) == 1, f"{name} is implemented in {implemented}"
    return implemented[0]


def room_of_include(included: str) -> str:
    folder, _, name = included.rpartition("/")
    return room_of_public_header(name) if folder == "nnx_wrappers" else room_of_folder(folder)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_includes_only_itself_and_the_rooms_below(room: str) -> None:
    files = [path for path in sources(f"src/{room}") if path.suffix in (".h", ".cc")]
    assert files
    below = ROOMS[: ROOMS.index(room) + 1]
    wrong = [
        f"{path.relative_to(ROOT)} includes {included}"
        for path in files
        for included in INCLUDE.findall(path.read_text(encoding="utf-8"))
        if room_of_include(included) not in below
    ]
    assert wrong == []


def test_the_page_of_the_architecture_lists_every_file_in_its_room() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    listed: set[tuple[str, str]] = set()
    room = ""
    for row in re.findall(r"^\|(.*?)\| (`.*?`) \| .* \|$", page, re.MULTILINE):
        room = row[0].strip("` |") or room
        listed.update((room, name) for name in re.findall(r"`(\w+)`", row[1]))
    files = {(room_of(path), path.stem) for path in sources("src") if path.suffix in (".h", ".cc")}
    assert files <= listed, files - listed
    assert {entry for entry in listed if entry[0] in ROOMS} <= files


def test_the_page_of_the_architecture_names_files_that_are_there() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:py|upstream|graph|bridge|bindings)/[\w/]+\.(?:cc|h))`", page)
    assert named
    assert [name for name in named if not (ROOT / "src" / name).exists()] == []


def test_public_headers_include_only_public_headers() -> None:
    headers = sources("include", ending=".h")
    assert headers
    for header in headers:
        for included in INCLUDE.findall(header.read_text(encoding="utf-8")):
            assert included.startswith("nnx_wrappers/"), f"{header.name} includes {included}"


def test_every_source_file_lies_in_a_room() -> None:
    assert {room_of(path) for path in sources("src")} == set(ROOMS)


def test_no_written_file_is_longer_than_400_lines() -> None:
    folders = ("src", "include", "python", "benchmarks", "examples", "tools")
    files = [path for path in sources(*folders) if path.suffix in {".cc", ".h", ".py", ".sh"}]
    lengths = {str(path.relative_to(ROOT)): len(path.read_bytes().splitlines()) for path in files}
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def code_of(path: Path) -> str:
    return COMMENT.sub("", path.read_text(encoding="utf-8"))


def test_only_the_room_upstream_imports_flax_and_jax_by_name() -> None:
    names = re.compile(r'import_\("(?:flax|jax|qwix)[\w.]*"|"(?:flax|jax|qwix)[\w.]*:[\w.]+"')
    found = {room_of(path) for path in sources("src") if names.search(code_of(path))}
    assert found == {"upstream"}


PRIVATE_NAME = re.compile(r'X\(\w+, "(_\w+)"\)')


def test_only_the_room_upstream_knows_private_names_of_flax() -> None:
    """Neither by the table of them nor as a text."""
    header = ROOT / "src/upstream/private_names.h"
    names = PRIVATE_NAME.findall(header.read_text(encoding="utf-8"))
    assert "_pytree__state" in names
    spelt = re.compile('"(?:' + "|".join(names) + ')"')
    found = {}
    for path in sources("src"):
        code = code_of(path)
        if "private_names.h" in code or spelt.search(code):
            found.setdefault(room_of(path), []).append(path.name)
    assert set(found) == {"upstream"}, found


def test_no_other_room_spells_a_private_attribute() -> None:
    """Of an object of Python, `_name` is private to whoever made it."""
    attribute = re.compile(r'(?:attr|nb::str|py::get\w*)\([^()]*"(_[a-z]\w*)"')
    own = {"_core", "_scope", "_rngs"}
    found = {
        (room_of(path), name)
        for path in sources("src")
        for name in attribute.findall(code_of(path))
        if not name.endswith("__") and name not in own
    }
    assert {entry for entry in found if entry[0] != "upstream"} <= {
        ("bridge/to_linen", "_make"),  # of named tuples: documented
    }


def test_the_library_names_few_objects_of_the_bridge_of_flax_and_what_install_replaces() -> None:
    named = set()
    for path in sources("src", "include"):
        code = COMMENT.sub("", path.read_text(encoding="utf-8"))
        named.update(FLAX_BRIDGE.findall(code))
    objects = {"nnx.bridge.variables:NNXMeta", "nnx.bridge.module:MODULE_CONTEXT"}
    places = {"nnx.bridge:NNXMeta"}  # where else the first may be
    # Asked for the attributes that it has, where they are not those of the newest Flax.
    asked = {"nnx.bridge:ToNNX"}
    registry = {  # of Variable types, in Flax 0.10.2
        "nnx.bridge.variables:VariableTypeCache",
        "nnx.bridge.variables:variable_type",
        "nnx.bridge.variables:variable_type_name",
        "nnx.bridge:register_variable_name_type_pair",
    }
    # Whose code a constructor may run: it is recognized, and not run by us.
    recognized = {"nnx.bridge.wrappers:current_linen_module", "nnx.bridge.module"}
    in_texts = {"nnx.bridge", "nnx.bridge.ToNNX", "nnx.bridge.ToLinen", "nnx.bridge.variables"}
    assert named == objects | places | asked | registry | recognized | in_texts


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def names_used(tree: ast.AST) -> Iterator[str]:
    """Every dotted name and every imported one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield dotted(node)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_the_package_names_one_class_of_the_bridge_of_flax() -> None:
    used = set()
    for path in sources("python", ending=".py") + sources("python", ending=".pyi"):
        used.update(names_used(ast.parse(path.read_text(encoding="utf-8"))))
    used = {name for name in used if "bridge" in name.split(".")}
    assert used <= {"nnx.bridge", "nnx.bridge.NNXMeta", "flax.nnx.bridge.NNXMeta"}


class Layer(nnx.Module):
    def __init__(self, features: int, *, rngs: nnx.Rngs) -> None:
        kernel = nnx.initializers.lecun_normal()(rngs.params(), (features, features))
        self.kernel = nnx.Param(kernel, note="mine")
        self.norm = nnx_wrappers.ToNNX(nn.BatchNorm(use_running_average=False), rngs=rngs)

    def __call__(self, x: jax.Array, _: None = None) -> tuple[jax.Array, None]:
        return self.norm(x @ self.kernel), None


def use_everything() -> None:
    """Runs each part of the public API."""
    scanned = nn.scan(
        nnx_wrappers.to_linen_class(Layer, features=4),
        variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True},
        length=2,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )
    scanned().init(jax.random.key(0), X, None)
    linen = nnx_wrappers.to_linen(Layer, 4)
    variables = linen.init(jax.random.key(0), X)
    linen.apply(variables, X, mutable=["batch_stats"])
    attributes = nnx_wrappers.linen_vars_to_nnx_attrs(variables)
    nnx_wrappers.nnx_attrs_to_linen_vars(attributes)
    model = nnx_wrappers.lazy_init(Layer(4, rngs=nnx.Rngs(0)), X)
    nnx.update(model, nnx.State(attributes))
    model(X)
    functional = nnx_wrappers.functional(Layer)(4)
    functional.apply(functional.init(rngs=nnx.Rngs(0)))


def test_no_function_of_the_bridge_of_flax_runs() -> None:
    files = {module.__file__ for module in (flax.nnx.bridge.wrappers, flax.nnx.bridge.variables)}
    called = set()

    def note_call(frame: types.FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename in files:
            called.add(frame.f_code.co_qualname)

    before = sys.getprofile()
    sys.setprofile(note_call)
    try:
        use_everything()
        nnx_wrappers_calls = {name for name in called if not name.startswith("NNXMeta.")}
        called.clear()
        flax.nnx.bridge.to_linen(nnx.Linear, 4, 4).init(jax.random.key(0), X)
        assert "ToLinen.__call__" in called  # such a call would have been seen
    finally:
        sys.setprofile(before)
    assert nnx_wrappers_calls == set()
