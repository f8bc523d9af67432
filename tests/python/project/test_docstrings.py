"""Runs the examples in the docstrings, those of the C++ functions included."""

import doctest
import inspect

import pytest

import nnx_wrappers

# Public names whose docstrings need no example, each with its reason.
WITHOUT_EXAMPLE = {
    "Functional": "made by `functional`, whose example uses it",
    "Installation": "made by `install`, whose example uses it",
    "InternalError": "only a bug raises it",
    "NotInitializedError": "only raised; ToNNX shows how not to get it",
    "get_cmake_dir": "its result is a path of this machine",
    "get_include": "its result is a path of this machine",
}


def examples_of(name: str, owner: object) -> list[doctest.DocTest]:
    """The docstring examples of a public object and of the methods it defines."""
    objects = {name: owner}
    if inspect.isclass(owner):
        own = {key: value for key, value in vars(owner).items() if not key.startswith("__")}
        objects |= {f"{name}.{key}": value for key, value in own.items()}
    parser = doctest.DocTestParser()
    found = []
    for path, value in objects.items():
        text = getattr(value, "__doc__", None)
        if isinstance(text, str):
            # Extension functions are no functions to doctest's own finder.
            found.append(parser.get_doctest(inspect.cleandoc(text), {}, path, None, None))
    return [test for test in found if test.examples]


CASES = [
    pytest.param(test, id=test.name)
    for name in nnx_wrappers.__all__
    for test in examples_of(name, getattr(nnx_wrappers, name))
]


# Which modules of the tests hold Flax's classes already depends on what ran before.
@pytest.mark.filterwarnings("ignore:nnx_wrappers.install.. came late")
@pytest.mark.parametrize("test", CASES)
def test_the_example_of_a_docstring_runs(test):
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert result.attempted == len(test.examples)
    assert result.failed == 0, "".join(report)


@pytest.mark.parametrize("name", sorted(nnx_wrappers.__all__))
def test_every_public_name_has_a_docstring_with_an_example(name):
    owner = getattr(nnx_wrappers, name)
    assert owner.__doc__
    assert bool(examples_of(name, owner)) != (name in WITHOUT_EXAMPLE)


def test_the_reasons_for_having_no_example_are_about_public_names():
    assert set(WITHOUT_EXAMPLE) <= set(nnx_wrappers.__all__)
