// What a user's mistake looks like from C++: always a python_error of the right type,
// whose text has the place, what was expected, what came, and the remedy.
#include <array>
#include <ostream>
#include <string>

#include "bridge/compat/functional.h"
#include "bridge/convert/nnx_meta.h"
#include "bridge/to_linen/python_methods.h"
#include "bridge/to_nnx/python_methods.h"
#include "nnx_wrappers/nnx_wrappers.h"
#include "support.h"

namespace nnx_wrappers::testing {

namespace {

struct Mistake {
  const char* name;
  void (*call)();
  const char* type;                     // a Python expression
  std::array<const char*, 4> mentions;  // where, expected, got, remedy
};

void PrintTo(const Mistake& mistake, std::ostream* out) { *out << mistake.name; }

nb::dict none() { return {}; }

nb::object odd() { return eval("object()"); }

nb::tuple sizes() { return nb::make_tuple(2, 3); }

nb::object x() { return eval("jnp.ones((1, 2))"); }

constexpr auto kMistakes = std::to_array<Mistake>({
    {"VanillaOfAValue",
     [] { is_vanilla_variable(odd()); },
     "TypeError",
     {"is_vanilla_variable", "an nnx.Variable", "an instance of object", "nnx.Param(value)"}},
    {"LinenVarOfAValue",
     [] { to_linen_var(nb::str("w")); },
     "TypeError",
     {"to_linen_var", "an nnx.Variable", "the string 'w'", "nnx.Param(value)"}},
    {"LinenVarOfABoxWithoutItsMetadata",
     [] { to_linen_var(eval("nnx.Param(1.0, linen_meta_type=linen.Partitioned)")); },
     "ValueError",
     {"to_linen_var", "Partitioned", "without", "linen_meta_type"}},
    {"KeyPathIsAString",
     [] { get_col_name(nb::str("params")); },
     "TypeError",
     {"get_col_name", "key path", "the string 'params'", "tree_map_with_path"}},
    {"KeyPathIsEmpty",
     [] { get_col_name(nb::make_tuple()); },
     "ValueError",
     {"get_col_name", "begins with a collection", "an empty path", "dict of collections"}},
    {"KeyPathHasAnotherHead",
     [] { get_col_name(eval("(jax.tree_util.GetAttrKey('a'),)")); },
     "TypeError",
     {"get_col_name", "DictKey", "GetAttrKey", "dict of collections"}},
    {"CollectionIsNoName",
     [] { to_nnx_var(odd(), x()); },
     "TypeError",
     {"to_nnx_var", "a str", "an instance of object", "'params'"}},
    {"BoxOfAnotherCollection",
     [] { to_nnx_var(nb::str("params"), eval("nnx_wrappers.NNXMeta(nnx.Cache, 1, {})")); },
     "ValueError",
     {"to_nnx_var", "class Param", "class Cache", "register_variable_name"}},
    {"VariablesAreNoMapping",
     [] { linen_vars_to_nnx_attrs(odd()); },
     "TypeError",
     {"linen_vars_to_nnx_attrs", "a mapping of collections", "an instance of object",
      "module.init"}},
    {"ACollectionIsNoMapping",
     [] { linen_vars_to_nnx_attrs(eval("{'params': object()}")); },
     "TypeError",
     {"linen_vars_to_nnx_attrs, params", "a mapping of variables", "an instance of object",
      "under a name"}},
    {"APathIsInTwoCollections",
     [] { linen_vars_to_nnx_attrs(eval("{'params': {'a': {'w': 1}}, 'cache': {'a': {'w': 2}}}")); },
     "ValueError",
     {"a/w", "one collection", "cache/a/w and params/a/w", "Rename"}},
    {"APathIsAPrefixOfAnother",
     [] { linen_vars_to_nnx_attrs(eval("{'params': {'a': 1}, 'cache': {'a': {'w': 2}}}")); },
     "ValueError",
     {"params/a", "no prefix of another", "cache/a/w", "Rename"}},
    {"AttributesAreNoMapping",
     [] { nnx_attrs_to_linen_vars(nb::none()); },
     "TypeError",
     {"nnx_attrs_to_linen_vars", "a mapping of attributes", "None", "nnx.state(module)"}},
    {"AVariableTypeHasNoCollection",
     [] {
       nnx_attrs_to_linen_vars(eval("{'a': {'w': type('CppUnknown', (nnx.Variable,), {})(1)}}"));
     },
     "ValueError",
     {"a/w", "collection name", "the class CppUnknown", "register_variable_name"}},
    {"LazyInitOfALinenModule",
     [] { lazy_init(eval("linen.Dense(2)"), nb::make_tuple(x()), none()); },
     "ValueError",
     {"lazy_init", "an NNX module", "an instance of Dense", "ToNNX(module, rngs=rngs)"}},
    {"LazyInitOfAFunction",
     [] { lazy_init(eval("len"), nb::make_tuple(x()), none()); },
     "ValueError",
     {"lazy_init", "an NNX module", "builtin_function", "bound method"}},
    {"LazyInitOfAModuleWithoutCall",
     [] { lazy_init(eval("type('Silent', (nnx.Module,), {})()"), nb::tuple(), none()); },
     "TypeError",
     {"lazy_init", "__call__", "an instance of Silent", "bound method"}},
    {"RngsOfAnUnboundModule",
     [] { linen_rngs_dict(eval("linen.Dense(2)")); },
     "ValueError",
     {"linen_rngs_dict", "a bound Linen module", "an unbound one", "inside a method"}},
    {"RngsOfNoModule",
     [] { linen_rngs_dict(nb::none()); },
     "TypeError",
     {"linen_rngs_dict", "a Linen module", "None", "self"}},
    {"RngsOfAnotherKind",
     [] { nnx_rngs_to_linen(odd()); },
     "TypeError",
     {"rngs", "nnx.Rngs", "an instance of object", "rngs=nnx.Rngs(0)"}},
    {"ToNNXOfAClass",
     [] { ToNNX(eval("linen.Dense"), nb::none()); },
     "TypeError",
     {"ToNNX", "an instance of a Linen module", "the class Dense", "ToNNX(Dense(...)"}},
    {"ToNNXOfAnNnxModule",
     [] { ToNNX(eval("nnx.Rngs(0)"), nb::none()); },
     "TypeError",
     {"ToNNX", "an instance of a Linen module", "an instance of Rngs", "use it as it is"}},
    {"ToNNXWithOddRngs",
     [] { ToNNX(eval("linen.Dense(2)"), nb::str("0")); },
     "TypeError",
     {"ToNNX, rngs", "nnx.Rngs", "the string '0'", "rngs=nnx.Rngs(0)"}},
    {"ToNNXFromSomethingElse",
     [] { ToNNX::from(eval("nnx.Rngs(0)")); },
     "TypeError",
     {"ToNNX::from", "an nnx_wrappers.ToNNX", "an instance of flax.nnx.rnglib.Rngs",
      "ToNNX(linen_module"}},
    {"ToNNXFromFlaxsOwn",
     [] { ToNNX::from(eval("nnx.bridge.ToNNX(linen.Dense(2), rngs=nnx.Rngs(0))")); },
     "TypeError",
     {"ToNNX::from", "an nnx_wrappers.ToNNX", "an instance of flax.nnx.bridge.wrappers.ToNNX",
      "ToNNX(linen_module"}},
    {"ToLinenFromFlaxsOwn",
     [] { ToLinen::from(eval("nnx.bridge.ToLinen(nnx.Linear, args=(2, 3))")); },
     "TypeError",
     {"ToLinen::from", "an nnx_wrappers.ToLinen", "an instance of flax.nnx.bridge.wrappers.ToLinen",
      "ToLinen(nnx_class"}},
    {"ToNNXBeforeLazyInit",
     [] { ToNNX(eval("linen.Dense(2)"), nb::none()).call(nb::make_tuple(x())); },
     "__import__('flax').errors.ScopeParamNotFoundError",
     {"ToNNX(Dense)", "no variables yet", "lazy_init"}},
    {"ToNNXWithoutKeys",
     [] { ToNNX(eval("linen.Dense(2)"), nb::none()).lazy_init(nb::make_tuple(x())); },
     "__import__('flax').errors.InvalidRngError",
     {"params", "ToNNX(module, rngs=nnx.Rngs(0))"}},
    {"ToNNXHasNoSuchAttribute",
     [] {
       bridge::to_nnx::attribute(eval("nnx_wrappers.ToNNX(linen.Dense(2))"), nb::str("nothing"));
     },
     "AttributeError",
     {"ToNNX", "nothing", "Dense", "lazy_init"}},
    {"ToLinenOfAnInstance",
     [] { ToLinen(eval("nnx.Linear(2, 3, rngs=nnx.Rngs(0))")); },
     "TypeError",
     {"ToLinen", "an NNX class", "an instance of Linear", "ToLinen(Linear, args="}},
    {"ToLinenOfNoCallable",
     [] { ToLinen{odd()}; },
     "TypeError",
     {"ToLinen", "an NNX class", "an instance of object", "nnx.Linear"}},
    {"ToLinenWithoutSuchAMethod",
     [] {
       nb::dict kwargs;
       kwargs["nnx_method"] = "nothing";
       ToLinen(eval("nnx.Linear"), sizes())
           .init_with_output(eval("jax.random.key(0)"), nb::make_tuple(x()), kwargs);
     },
     "AttributeError",
     {"ToLinen, Linear", "a method", "'nothing'", "nnx_method="}},
    {"ToLinenOfSomethingThatMakesNoModule",
     [] {
       ToLinen(eval("lambda rngs: object()"))
           .init_with_output(eval("jax.random.key(0)"), nb::make_tuple(x()));
     },
     "TypeError",
     {"ToLinen", "an NNX module", "an instance of object", "Return the module"}},
    {"ClassNameOfANamelessCallable",
     [] { bridge::to_linen::class_name(odd()); },
     "TypeError",
     {"to_linen_class", "an NNX class", "an instance of object", "nnx.Linear"}},
    {"AxisParamsAreNoMapping",
     [] { bridge::nnx_meta_add_axis(eval("nnx_wrappers.NNXMeta(nnx.Param, 1, {})"), 0, odd()); },
     "TypeError",
     {"NNXMeta.add_axis", "a mapping", "an instance of object", "metadata_params"}},
    {"AxisHasAnotherName",
     [] {
       bridge::nnx_meta_remove_axis(
           eval("nnx_wrappers.NNXMeta(nnx.Param, jnp.ones((1, 2)), {'out_sharding': ('a', 'b')})"),
           0, eval("{'partition_name': 'layers'}"));
     },
     "ValueError",
     {"NNXMeta.remove_axis", "'layers' at index 0", "'a'", "metadata_params"}},
    {"FunctionalBeforeInit",
     [] {
       bridge::functional_apply(eval("nnx_wrappers.functional(nnx.Linear)(2, 3)"), nb::tuple());
     },
     "ValueError",
     {"Functional.apply", "initialized", "without a graphdef", "init(rngs=...)"}},
    {"PartitioningOfNoInitializer",
     [] { bridge::with_partitioning(odd(), nb::tuple(), nb::none()); },
     "TypeError",
     {"with_partitioning", "an initializer", "an instance of object", "lecun_normal"}},
});

class BridgeErrors : public ::testing::TestWithParam<Mistake> {};

INSTANTIATE_TEST_SUITE_P(, BridgeErrors, ::testing::ValuesIn(kMistakes),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(BridgeErrors, SayWhereWhatAndWhatToDo) {
  const Error error = error_of(GetParam().call);
  EXPECT_TRUE(error.is_a(eval(GetParam().type))) << error.text;
  for (const char* part : GetParam().mentions) {
    if (part == nullptr) continue;
    EXPECT_THAT(error.text, HasSubstr(part));
  }
  EXPECT_EQ(PyErr_Occurred(), nullptr);
}

TEST(BridgeErrorsRules, VariablesThatContradictTheModuleAreRefused) {
  const ToLinen model(eval("nnx.Linear"), sizes());
  const Error error = error_of([&] {
    model.apply(eval("{'params': {'kernel': {'w': jnp.ones(1)}, 'bias': jnp.ones(3)}}"),
                nb::make_tuple(x()));
  });
  EXPECT_TRUE(error.is_a(PyExc_ValueError));
  EXPECT_THAT(error.text, AllOf(HasSubstr("ToLinen.apply, params/kernel"), HasSubstr("one value"),
                                HasSubstr("variables below it"), HasSubstr("remove them")));
}

TEST(BridgeErrorsRules, ANameThatWouldHideAMethodIsRefused) {
  const nb::object linen_model = run(R"(
    class Model(linen.Module):
      @linen.compact
      def __call__(self, x):
        return linen.Dense(2, name='lazy_init')(x)
    result = Model()
  )");
  ToNNX model(linen_model, eval("nnx.Rngs(0)"));
  const std::string before = show(eval("nnx.state")(model.object()));
  const Error error = error_of([&] { model.lazy_init(nb::make_tuple(x())); });
  EXPECT_TRUE(error.is_a(PyExc_ValueError));
  EXPECT_THAT(error.text, AllOf(HasSubstr("params/lazy_init"), HasSubstr("shadow ToNNX.lazy_init"),
                                HasSubstr("Rename")));
  EXPECT_EQ(show(eval("nnx.state")(model.object())), before);
}

}  // namespace

}  // namespace nnx_wrappers::testing
