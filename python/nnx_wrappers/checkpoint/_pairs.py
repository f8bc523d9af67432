"""Layers of Linen and NNX whose parameters have different names or shapes.

Each pair looks at what is left of both trees after equal names are matched, and makes leaves of the
target's names of the source's. It acts only where the whole layer is there on both sides.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from nnx_wrappers.checkpoint import _expressions as ex

Tree = Mapping[str, ex.Expression]
Shapes = Mapping[str, tuple[int, ...]]

LSTM_GATES = ("i", "f", "g", "o")  # as OptimizedLSTMCell of NNX has them beside each other
GRU_GATES = ("r", "z", "n")
SIMPLE = {"dense_i/kernel": "i/kernel", "dense_i/bias": "i/bias", "dense_h/kernel": "h/kernel"}
NO_GRU = (
    "NNX's GRUCell has no hn/bias, so Linen's GRUCell has no counterpart; "
    "keep the Linen cell in a ToNNX"
)
NNX_NORM = re.compile(r"(.*?)(?:scales|batch_stats)/\((.*)\)")
LINEN_NORM = re.compile(r"(.*?)layer_instance/(.*)/(scale|u|sigma)")


def made(source: Tree, target: Shapes, source_is_linen: bool) -> dict[str, ex.Expression]:
    """Leaves under the target's names that the pairs of layers give."""
    found: dict[str, ex.Expression] = {}
    for name, shape in target.items():
        value = _renamed(name, shape, source, target, source_is_linen)
        if value is not None:
            found[name] = value
    found |= _optimized_lstm(source, target, source_is_linen)
    return found


def not_representable(linen: Iterable[str], nnx: Iterable[str]) -> dict[str, str]:
    """Prefixes of layers that the other side cannot hold, and why."""
    names = set(linen)
    found = {}
    for name in nnx:
        prefix, has, _ = name.rpartition("dense_h/kernel")
        gates = {f"{prefix}{side}{gate}/kernel" for side in "ih" for gate in GRU_GATES}
        if has and gates <= names and f"{prefix}hn/bias" in names:
            found[prefix] = NO_GRU
    return found


def linen_name(name: str, layer: str) -> str:
    """The name in Linen of a parameter of an NNX layer of this class, if the layer only renames."""
    if layer == "LSTMCell":
        return re.sub(r"^if_/", "if/", name)
    if layer == "SimpleCell":
        return SIMPLE.get(name, name)
    return _norm_in_linen(name) or name


def _renamed(
    name: str, shape: tuple[int, ...], source: Tree, target: Shapes, source_is_linen: bool
) -> ex.Expression | None:
    linen, nnx = (source, target) if source_is_linen else (target, source)
    for other in _other_names(name, linen, nnx, source_is_linen):
        value = source.get(other)
        if value is not None and value.shape == shape:
            return value
    return None


def _other_names(
    name: str, linen: Iterable[str], nnx: Iterable[str], source_is_linen: bool
) -> Iterator[str]:
    linen, nnx = set(linen), set(nnx)
    if source_is_linen:
        if re.search(r"(^|/)if_/", name):
            yield re.sub(r"(^|/)if_/", r"\1if/", name)
        for end, linen_end in SIMPLE.items():
            if name.endswith(end) and _is_path_end(name, end):
                yield name.removesuffix(end) + linen_end
        norm = _norm_in_linen(name)
        if norm:
            yield norm
        return
    if re.search(r"(^|/)if/", name):
        yield re.sub(r"(^|/)if/", r"\1if_/", name)
    for end, linen_end in SIMPLE.items():
        if name.endswith(linen_end) and _is_path_end(name, linen_end):
            yield name.removesuffix(linen_end) + end
    norm_match = LINEN_NORM.fullmatch(name)
    if norm_match:
        yield _norm_in_nnx(*norm_match.groups())


def _is_path_end(name: str, end: str) -> bool:
    return name == end or name.endswith("/" + end)


def _norm_in_linen(name: str) -> str | None:
    """`norm/scales/('kernel',)` of a WeightNorm or SpectralNorm as Linen writes it."""
    match = NNX_NORM.fullmatch(name)
    if match is None:
        return None
    parts = re.findall(r"'([^']*)'|(\d+)", match[2])
    texts = [text or number for text, number in parts]
    last = ["scale"] if "scales/(" in name else []
    return match[1] + "/".join(["layer_instance", *texts, *last])


def _norm_in_nnx(prefix: str, path: str, kind: str) -> str:
    if kind == "scale":
        return f"{prefix}scales/{tuple(path.split('/'))}"
    return f"{prefix}batch_stats/{(*path.split('/'), kind)}"


def _optimized_lstm(
    source: Tree, target: Shapes, source_is_linen: bool
) -> dict[str, ex.Expression]:
    nnx = target if source_is_linen else source
    linen = source if source_is_linen else target
    found: dict[str, ex.Expression] = {}
    for name in nnx:
        match = re.fullmatch(r"((?:.*/)?)dense_([ih])/(kernel|bias)", name)
        if match is None:
            continue
        parts = [f"{match[1]}{match[2]}{gate}/{match[3]}" for gate in LSTM_GATES]
        if not all(part in linen for part in parts):
            continue
        if source_is_linen:
            values = [source[part] for part in parts]
            if len({value.shape for value in values}) == 1:
                whole = ex.concat(values, -1)
                found |= {name: whole} if whole.shape == target[name] else {}
            continue
        value = source[name]
        sizes = [target[part][-1] for part in parts if target[part]]
        if len(sizes) == 4 and value.shape and sum(sizes) == value.shape[-1]:
            found |= dict(zip(parts, ex.split(value, -1, sizes), strict=True))
    return found
