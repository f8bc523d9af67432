"""Arguments that no sane program has: each has a defined outcome."""

import collections.abc
import functools
import gc

import pytest
from flax import nnx

import nnx_wrappers as nw
from support.arguments import KEY, VARIABLES, WANTED, Layer, X, apply
from support.oracle import assert_same

pytestmark = pytest.mark.usefixtures("no_interrupting_threads")


class Rooted(collections.abc.Mapping):
    """A mapping, hashable by identity, that holds itself."""

    def __init__(self):
        self.items_ = {"width": 2, "root": self}

    def __getitem__(self, key):
        return self.items_[key]

    def __iter__(self):
        return iter(self.items_)

    def __len__(self):
        return len(self.items_)

    __hash__ = object.__hash__
    __eq__ = object.__eq__


@pytest.mark.feature("plans")
def test_a_mapping_that_holds_itself_is_an_argument_as_any_other(fresh_caches):
    config = Rooted()
    for _ in range(2):
        assert_same(apply(config), WANTED)
    assert nw.cache_info()["plans"]["hits"] > 0


def test_an_argument_may_change_its_class_while_it_is_hashed(fresh_caches):
    class After:
        def __hash__(self):
            return 1

    def change(self):
        self.__class__ = After
        gc.collect()
        return 1

    before = type("Before", (), {"__hash__": change, "__eq__": object.__eq__})
    argument = before()
    del before
    assert_same(apply(argument), WANTED)
    nw.clear_caches()
    gc.collect()


@pytest.mark.parametrize("order", [7, [], (7,)], ids=["number", "list", "tuple"])
def test_a_class_whose_method_resolution_order_is_none(order):
    told = []

    class Meta(type(nnx.Module)):
        @property
        def __mro__(cls):
            return told[0] if told else type.__dict__["__mro__"].__get__(cls)

    class Odd(Layer, metaclass=Meta):
        def __init__(self, rngs):
            super().__init__(None, rngs)

    model = nw.ToLinen(Odd)
    told.append(order)
    with pytest.raises(AttributeError, match=r"nothing|__dict__"):
        _ = model.nothing
    told.clear()
    assert_same(model.apply(VARIABLES, X), WANTED)


def test_a_mapping_may_not_give_one_key_twice():
    class Twice(Rooted):
        def items(self):
            return [("a", nnx.Param(X)), ("a", {"b": nnx.Param(X)})]

    with pytest.raises(ValueError, match="nnx_attrs_to_linen_vars, a: expected one attribute"):
        nw.nnx_attrs_to_linen_vars(Twice())


def test_a_callable_that_wraps_itself_ends(fresh_caches):
    loop = functools.partial(Layer)
    loop.__setstate__((loop, (), {}, {}))
    with pytest.raises(TypeError, match="to_linen_class: expected an NNX class"):
        nw.to_linen_class(loop)

    class Wraps:
        @property
        def func(self):
            return self

        def __call__(self, rngs):
            return Layer(None, rngs)

    nw.record_usage(True)
    try:
        nw.ToLinen(Wraps()).init(KEY, X)
        assert nw.usage()[0]["wrapped"] == "Wraps"
    finally:
        nw.record_usage(False)
        nw.clear_usage()


def test_a_key_that_is_made_while_another_is_made_is_its_own(fresh_caches):
    class Calls(nnx.Module):
        def __init__(self, function, rngs):
            self.function = function

        def __call__(self):
            return self.function(0)

    results = []

    class Asks:
        """Asks for the key of the function whose key is being made."""

        inside = False

        def __hash__(self):
            if not Asks.inside:
                Asks.inside = True
                results.append(nw.ToLinen(Calls, args=(self.function,)).apply({}))
                Asks.inside = False
            return 1

        def __eq__(self, other):
            return type(other) is Asks

    def makes(result):
        asks = Asks()

        def function(steps):
            return (result, asks) and (result if steps == 0 else function(steps - 1))

        asks.function = function
        return function

    for result in (1, 2, 3):
        outer = nw.ToLinen(Calls, args=(makes(result),))
        assert [outer.apply({}), *results] == [result] * (1 + len(results))
        results.clear()
