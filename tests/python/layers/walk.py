"""The classes that a package of Flax defines, so that no layer is forgotten."""

import importlib
import pathlib
import types


def classes_in(package: types.ModuleType, base: type) -> set[type]:
    """The subclasses of `base` in every module of the package, private ones and namespace
    packages too."""
    root = pathlib.Path(package.__path__[0])
    found: set[type] = set()
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join((package.__name__, *(part for part in parts if part != "__init__")))
        found |= {x for x in vars(importlib.import_module(name)).values() if isinstance(x, type)}
    return {x for x in found if issubclass(x, base) and x.__module__.startswith(package.__name__)}
