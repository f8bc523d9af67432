// The types of the bound functions, for the stub _core.pyi. Parameters keep the names
// that module.cc gives them.
#pragma once

namespace signatures {

inline constexpr const char* kIsVanillaVariable =
    "def is_vanilla_variable(vs: flax.nnx.Variable) -> bool";
inline constexpr const char* kToLinenVar = "def to_linen_var(vs: flax.nnx.Variable) -> typing.Any";
inline constexpr const char* kGetColName =
    "def get_col_name(keypath: jax.tree_util.KeyPath) -> str";
inline constexpr const char* kToNnxVar =
    "def to_nnx_var(col: str, x: typing.Any) -> flax.nnx.Variable";
inline constexpr const char* kLinenVarsToNnxAttrs =
    "def linen_vars_to_nnx_attrs(variables: flax.typing.VariableDict) -> dict[str, typing.Any]";
inline constexpr const char* kNnxAttrsToLinenVars =
    "def nnx_attrs_to_linen_vars(nnx_attrs: collections.abc.Mapping) -> dict[str, dict[str, "
    "typing.Any]]";
inline constexpr const char* kLazyInit =
    "def lazy_init(fn: typing.Any, /, *args: typing.Any, **kwargs: typing.Any) -> typing.Any";
inline constexpr const char* kCurrentLinenModule =
    "def current_linen_module() -> flax.linen.Module | None";
inline constexpr const char* kLinenRngsDict =
    "def linen_rngs_dict(linen_module: flax.linen.Module, add_default: bool = False) -> dict[str, "
    "typing.Any]";
inline constexpr const char* kWithPartitioning =
    "def with_partitioning(fn: flax.typing.Initializer, names: flax.typing.Sharding, mesh: "
    "jax.sharding.Mesh | None = None) -> flax.typing.Initializer";
inline constexpr const char* kFeatures = "def features() -> dict[str, str | None]";
inline constexpr const char* kCacheInfo = "def cache_info() -> dict[str, dict[str, typing.Any]]";
inline constexpr const char* kUsePlans = "def use_plans(enabled: bool) -> bool";
inline constexpr const char* kRecordUsage = "def record_usage(enabled: bool) -> bool";
inline constexpr const char* kUsage = "def usage() -> list[dict[str, typing.Any]]";
inline constexpr const char* kInstall = "def install() -> nnx_wrappers.Installation";
inline constexpr const char* kInstallationReplaced =
    "def installation_replaced() -> dict[str, list[str]]";
inline constexpr const char* kCheckedParam =
    "def checked_param(scope: flax.core.Scope, name: str, init_fn: typing.Any, init_args: "
    "tuple[typing.Any, ...], unbox: bool, init_kwargs: dict[str, typing.Any]) -> typing.Any";
inline constexpr const char* kNotInitializedError =
    "def not_initialized_error() -> type[flax.errors.ScopeParamNotFoundError]";
inline constexpr const char* kToNnxInit =
    "def to_nnx_init(self: flax.nnx.Module, module: flax.linen.Module, rngs: flax.nnx.Rngs | "
    "jax.Array | None) -> None";
inline constexpr const char* kToNnxCall =
    "def to_nnx_call(self: flax.nnx.Module, args: tuple[typing.Any, ...], kwargs: dict[str, "
    "typing.Any], rngs: typing.Any, method: typing.Any, mutable: typing.Any) -> typing.Any";
inline constexpr const char* kToNnxAttribute =
    "def to_nnx_attribute(self: flax.nnx.Module, name: str) -> typing.Any";
inline constexpr const char* kToNnxAttributeValue =
    "def to_nnx_attribute_value(value: typing.Any) -> typing.Any";
inline constexpr const char* kToNnxAttributes = "def to_nnx_attributes() -> tuple[str, str]";
inline constexpr const char* kToNnxClassKeywords =
    "def to_nnx_class_keywords() -> dict[str, typing.Any]";
inline constexpr const char* kToNnxReleaseRngs =
    "def to_nnx_release_rngs(self: flax.nnx.Module) -> None";
inline constexpr const char* kToNnxGetLayers =
    "def to_nnx_get_layers(self: flax.nnx.Module) -> list[typing.Any]";
inline constexpr const char* kToLinenCheckClass =
    "def to_linen_check_class(nnx_class: typing.Any) -> None";
inline constexpr const char* kToLinenCall =
    "def to_linen_call(self: flax.linen.Module, nnx_method: typing.Any, args: tuple[typing.Any, "
    "...], kwargs: dict[str, typing.Any]) -> typing.Any";
inline constexpr const char* kToLinenAttribute =
    "def to_linen_attribute(self: flax.linen.Module, name: str) -> tuple[typing.Any, ...]";
inline constexpr const char* kToLinenUpdateVariables =
    "def to_linen_update_variables(self: flax.linen.Module, module: flax.nnx.Module) -> None";
inline constexpr const char* kToLinenIsInert =
    "def to_linen_is_inert(self: flax.linen.Module, name: str, value: typing.Any) -> bool";
inline constexpr const char* kToLinenDeepClone =
    "def to_linen_deep_clone(self: flax.linen.Module, asked: typing.Any, "
    "updates: dict[str, typing.Any]) -> typing.Any";
inline constexpr const char* kToLinenPartialFields =
    "def to_linen_partial_fields(fixed: dict[str, typing.Any], given: dict[str, typing.Any]) -> "
    "dict[str, typing.Any]";
inline constexpr const char* kToLinenClassName =
    "def to_linen_class_name(nnx_class: typing.Any) -> str";
inline constexpr const char* kToLinenStream =
    "def to_linen_stream(rngs: flax.nnx.Rngs, name: str, error_type: type[Exception]) -> "
    "flax.nnx.RngStream";
inline constexpr const char* kNnxMetaAddAxis =
    "def nnx_meta_add_axis(box: typing.Any, index: int, params: typing.Any) -> typing.Any";
inline constexpr const char* kNnxMetaRemoveAxis =
    "def nnx_meta_remove_axis(box: typing.Any, index: int, params: typing.Any) -> typing.Any";
inline constexpr const char* kNnxMetaPartitionSpec =
    "def nnx_meta_partition_spec(box: typing.Any) -> jax.sharding.PartitionSpec | None";
inline constexpr const char* kNnxMetaToVariable =
    "def nnx_meta_to_variable(box: typing.Any) -> flax.nnx.Variable";
inline constexpr const char* kAdoptScopeOf =
    "def adopt_scope_of(module: flax.linen.Module | None, root: flax.core.Scope | None) -> None";
inline constexpr const char* kHashInC = "def hash_in_c(scope_class: type[flax.core.Scope]) -> None";
inline constexpr const char* kScopeRewound =
    "def scope_rewound(scope: flax.core.Scope, rewind_rngs: bool) -> flax.core.Scope";
inline constexpr const char* kScopePushed =
    "def scope_pushed(scope: flax.core.Scope, name: str | None, prefix: str, reuse: bool) -> "
    "flax.core.Scope";
inline constexpr const char* kScopeRngs =
    "def scope_rngs(scope: flax.core.Scope) -> dict[str, typing.Any]";
inline constexpr const char* kFunctionalInit =
    "def functional_init(self: typing.Any, rngs: flax.nnx.Rngs | None) -> flax.nnx.State";
inline constexpr const char* kFunctionalApply =
    "def functional_apply(self: typing.Any, states: tuple[typing.Any, ...]) -> typing.Any";

}  // namespace signatures
