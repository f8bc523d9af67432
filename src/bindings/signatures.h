// The types of the bound functions, for the stub _core.pyi. Parameters keep the names
// that module.cc gives them.
#pragma once

#include <nanobind/nanobind.h>

namespace signatures {

inline const nanobind::sig kIsVanillaVariable{
    "def is_vanilla_variable(vs: flax.nnx.Variable) -> bool"};
inline const nanobind::sig kToLinenVar{"def to_linen_var(vs: flax.nnx.Variable) -> typing.Any"};
inline const nanobind::sig kGetColName{"def get_col_name(keypath: jax.tree_util.KeyPath) -> str"};
inline const nanobind::sig kToNnxVar{
    "def to_nnx_var(col: str, x: typing.Any) -> flax.nnx.Variable"};
inline const nanobind::sig kLinenVarsToNnxAttrs{
    "def linen_vars_to_nnx_attrs(variables: flax.typing.VariableDict) -> dict[str, typing.Any]"};
inline const nanobind::sig kNnxAttrsToLinenVars{
    "def nnx_attrs_to_linen_vars(nnx_attrs: collections.abc.Mapping) -> dict[str, dict[str, "
    "typing.Any]]"};
inline const nanobind::sig kLazyInit{
    "def lazy_init(fn: typing.Any, *args: typing.Any, **kwargs: typing.Any) -> typing.Any"};
inline const nanobind::sig kCurrentLinenModule{
    "def current_linen_module() -> flax.linen.Module | None"};
inline const nanobind::sig kLinenRngsDict{
    "def linen_rngs_dict(linen_module: flax.linen.Module, add_default: bool = False) -> dict[str, "
    "typing.Any]"};
inline const nanobind::sig kWithPartitioning{
    "def with_partitioning(fn: flax.typing.Initializer, names: flax.typing.Sharding, mesh: "
    "jax.sharding.Mesh | None = None) -> flax.typing.Initializer"};
inline const nanobind::sig kCacheInfo{"def cache_info() -> dict[str, dict[str, typing.Any]]"};
inline const nanobind::sig kCheckedParam{
    "def checked_param(scope: flax.core.Scope, name: str, init_fn: typing.Any, init_args: "
    "tuple[typing.Any, ...], unbox: bool, init_kwargs: dict[str, typing.Any]) -> typing.Any"};
inline const nanobind::sig kToNnxInit{
    "def to_nnx_init(self: flax.nnx.Module, module: flax.linen.Module, rngs: flax.nnx.Rngs | "
    "jax.Array | None) -> None"};
inline const nanobind::sig kToNnxCall{
    "def to_nnx_call(self: flax.nnx.Module, args: tuple[typing.Any, ...], kwargs: dict[str, "
    "typing.Any], rngs: typing.Any, method: typing.Any, mutable: typing.Any) -> typing.Any"};
inline const nanobind::sig kToNnxAttribute{
    "def to_nnx_attribute(self: flax.nnx.Module, name: str) -> typing.Any"};
inline const nanobind::sig kToNnxAttributeValue{
    "def to_nnx_attribute_value(value: typing.Any) -> typing.Any"};
inline const nanobind::sig kToNnxReleaseRngs{
    "def to_nnx_release_rngs(self: flax.nnx.Module) -> None"};
inline const nanobind::sig kToNnxGetLayers{
    "def to_nnx_get_layers(self: flax.nnx.Module) -> list[typing.Any]"};
inline const nanobind::sig kToLinenCheckClass{
    "def to_linen_check_class(nnx_class: typing.Any) -> None"};
inline const nanobind::sig kToLinenCall{
    "def to_linen_call(self: flax.linen.Module, nnx_method: typing.Any, args: tuple[typing.Any, "
    "...], kwargs: dict[str, typing.Any]) -> typing.Any"};
inline const nanobind::sig kToLinenAttribute{
    "def to_linen_attribute(self: flax.linen.Module, name: str) -> tuple[typing.Any, ...]"};
inline const nanobind::sig kToLinenUpdateVariables{
    "def to_linen_update_variables(self: flax.linen.Module, module: flax.nnx.Module) -> None"};
inline const nanobind::sig kToLinenPartialFields{
    "def to_linen_partial_fields(fixed: dict[str, typing.Any], given: dict[str, typing.Any]) -> "
    "dict[str, typing.Any]"};
inline const nanobind::sig kToLinenClassName{
    "def to_linen_class_name(nnx_class: typing.Any) -> str"};
inline const nanobind::sig kToLinenStream{
    "def to_linen_stream(rngs: flax.nnx.Rngs, name: str, error_type: type[Exception]) -> "
    "flax.nnx.RngStream"};
inline const nanobind::sig kNnxMetaAddAxis{
    "def nnx_meta_add_axis(box: typing.Any, index: int, params: typing.Any) -> typing.Any"};
inline const nanobind::sig kNnxMetaRemoveAxis{
    "def nnx_meta_remove_axis(box: typing.Any, index: int, params: typing.Any) -> typing.Any"};
inline const nanobind::sig kNnxMetaToVariable{
    "def nnx_meta_to_variable(box: typing.Any) -> flax.nnx.Variable"};
inline const nanobind::sig kFunctionalInit{
    "def functional_init(self: typing.Any, rngs: flax.nnx.Rngs | None) -> flax.nnx.State"};
inline const nanobind::sig kFunctionalApply{
    "def functional_apply(self: typing.Any, states: tuple[typing.Any, ...]) -> typing.Any"};

}  // namespace signatures
