"""Leaves in batches of bounded size: as few reads and writes as memory allows."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

from nnx_wrappers.checkpoint import _expressions as ex
from nnx_wrappers.checkpoint._names import Name, number_of_bytes

SMALL = 16 * 2**20  # below this many bytes leaves are always moved together

Item = TypeVar("Item", bound=Hashable)


def budget(sizes: Iterable[int]) -> int:
    """The bytes of a batch: those of the largest leaf."""
    return max(SMALL, max(sizes, default=0))


def by_size(sizes: Mapping[Item, int]) -> Iterator[list[Item]]:
    """The items in order, in batches within the budget."""
    most = budget(sizes.values())
    batch: list[Item] = []
    total = 0
    for item, size in sizes.items():
        if batch and total + size > most:
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch


def of_values(values: Mapping[Name, ex.Expression]) -> Iterator[list[Name]]:
    """Leaves of the target in batches, those made of one leaf of the source beside each other."""
    origins = {
        name: [source.name for source in ex.sources(value)] for name, value in values.items()
    }
    sizes: dict[Name, int] = {}
    for value in values.values():
        for source in ex.sources(value):
            sizes[source.name] = number_of_bytes(source.shape, source.dtype)
    made = {name: number_of_bytes(value.shape, value.dtype) for name, value in values.items()}
    most = budget([*sizes.values(), *made.values()])
    batch: list[Name] = []
    read: set[Name] = set()
    total = 0
    for name in sorted(values, key=lambda name: (origins[name][0], name)):
        more = set(origins[name]) - read
        if batch and (total + made[name] > most or sum(sizes[n] for n in read | more) > most):
            yield batch
            batch, total, read = [], 0, set()
        batch.append(name)
        total += made[name]
        read |= set(origins[name])
    if batch:
        yield batch
