"""The names, signatures and defaults that users import."""

import inspect

import pytest
from flax import linen, nnx

import nnx_wrappers as nw

MAXTEXT_NAMES = [
    "is_vanilla_variable",
    "to_linen_var",
    "get_col_name",
    "to_nnx_var",
    "linen_vars_to_nnx_attrs",
    "nnx_attrs_to_linen_vars",
    "lazy_init",
    "current_linen_module",
    "is_linen_initializing",
    "ToNNX",
    "linen_rngs_dict",
    "ToLinen",
    "to_linen",
    "to_linen_class",
]
FLAX_NAMES = [
    "ToNNX",
    "ToLinen",
    "to_linen",
    "lazy_init",
    "NNXMeta",
    "with_partitioning",
    "functional",
    "Functional",
]

# As in maxtext.layers.nnx_wrappers 0.2.5; REQUIRED stands for no default.
REQUIRED = inspect.Parameter.empty
NATIVE_SIGNATURES = {
    "is_vanilla_variable": ["vs"],
    "to_linen_var": ["vs"],
    "get_col_name": ["keypath"],
    "to_nnx_var": ["col", "x"],
    "linen_vars_to_nnx_attrs": ["variables"],
    "nnx_attrs_to_linen_vars": ["nnx_attrs"],
    "lazy_init": ["fn", "*args", "**kwargs"],
    "current_linen_module": [],
    "is_linen_initializing": [],
    "linen_rngs_dict": ["linen_module", "add_default"],
    "with_partitioning": ["fn", "names", "mesh"],
}


@pytest.mark.parametrize("name", sorted({*MAXTEXT_NAMES, *FLAX_NAMES}))
def test_every_name_of_both_upstreams_is_exported(name):
    assert name in nw.__all__
    assert callable(getattr(nw, name))


@pytest.mark.parametrize("name", sorted(NATIVE_SIGNATURES))
def test_native_functions_take_the_documented_arguments(name):
    text = getattr(nw, name).__doc__.partition("\n")[0]
    inside = text[text.index("(") + 1 : text.rindex(") ->")]
    names = [part.split(":")[0].strip() for part in inside.split(",") if part.strip() != "/"]
    assert [n for n in names if n] == NATIVE_SIGNATURES[name]


def test_keyword_arguments_work_by_name():
    variable = nnx.Param(1.0)
    assert nw.is_vanilla_variable(vs=variable)
    assert nw.to_linen_var(vs=variable) == 1.0
    assert nw.to_nnx_var(col="params", x=1.0).get_value() == 1.0
    assert nw.nnx_attrs_to_linen_vars(nnx_attrs={}) == {}
    assert nw.linen_vars_to_nnx_attrs(variables={}) == {}


def test_to_nnx_call_has_the_signature_of_maxtext():
    parameters = inspect.signature(nw.ToNNX.__call__).parameters
    assert list(parameters) == ["self", "args", "rngs", "method", "mutable", "kwargs"]
    for name in ("rngs", "method", "mutable"):
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default is None


def test_to_nnx_is_an_nnx_module_made_from_a_module_and_rngs():
    assert issubclass(nw.ToNNX, nnx.Module)
    parameters = inspect.signature(nw.ToNNX.__init__).parameters
    assert list(parameters) == ["self", "module", "rngs"]
    assert parameters["rngs"].default is None


def test_to_linen_has_the_fields_of_maxtext_in_order():
    assert issubclass(nw.ToLinen, linen.Module)
    parameters = inspect.signature(nw.ToLinen).parameters
    defaults = {name: p.default for name, p in parameters.items()}
    assert list(defaults) == [
        "nnx_class",
        "args",
        "kwargs",
        "skip_rng",
        "metadata_fn",
        "nnx_module_augment_fn",
        "parent",
        "name",
    ]
    assert defaults["nnx_class"] is REQUIRED
    assert defaults["args"] == ()
    assert defaults["kwargs"] == {}
    assert defaults["skip_rng"] is False
    assert defaults["metadata_fn"] is nw.to_linen_var
    assert defaults["nnx_module_augment_fn"] is None


def test_to_linen_shortcut_has_the_defaults_of_maxtext():
    parameters = inspect.signature(nw.to_linen).parameters
    assert list(parameters) == [
        "nnx_class",
        "args",
        "metadata_fn",
        "name",
        "skip_rng",
        "abstract_init",
        "kwargs",
    ]
    assert parameters["metadata_fn"].default is nw.to_linen_var
    assert parameters["name"].default is None
    assert parameters["skip_rng"].default is False
    assert parameters["abstract_init"].default is True


def test_to_linen_class_has_the_signature_of_maxtext():
    parameters = inspect.signature(nw.to_linen_class).parameters
    assert list(parameters) == [
        "base_nnx_class",
        "base_metadata_fn",
        "base_skip_rng",
        "nnx_module_augment_fn",
        "partial_kwargs",
    ]
    assert parameters["base_skip_rng"].default is False
    assert parameters["nnx_module_augment_fn"].default is None


def test_nnx_meta_is_a_box_that_flax_knows():
    assert issubclass(nw.NNXMeta, nnx.bridge.NNXMeta)


def test_the_cpp_package_is_installed():
    from pathlib import Path

    assert (Path(nw.get_include()) / "nnx_wrappers" / "nnx_wrappers.h").is_file()
    assert (Path(nw.get_cmake_dir()) / "nnx_wrappersConfig.cmake").is_file()
