// The public headers, called from C++ and held against flax.nnx.bridge where it can do
// the same. (tests/python compares far more; here it is the C++ side that counts.)
#include <array>

#include "nnx_wrappers/nnx_wrappers.h"
#include "support.h"

namespace nnx_wrappers::testing {

namespace {

// --- variables.h

constexpr auto kVariables = std::to_array<const char*>({
    "nnx.Param(jnp.arange(3.0))",
    "nnx.Param(jnp.arange(3.0), note='mine')",
    "nnx.BatchStat(jnp.arange(3), collection='x')",
    "nnx.Cache(jnp.ones(2, jnp.bfloat16))",
});

TEST(BridgeVariables, LeavesAreThoseOfFlax) {
  const nb::object oracle = eval("nnx.bridge.variables.to_linen_var");
  for (const char* source : kVariables) {
    const nb::object variable = eval(source);
    EXPECT_EQ(account(to_linen_var(variable)), account(oracle(variable))) << source;
  }
}

TEST(BridgeVariables, AVariableThatCameFromABoxBecomesIt) {
  const nb::object variable = eval(
      "nnx.Param(jnp.ones(2), linen_meta_type=linen.Partitioned, out_sharding=('x',), "
      "mesh=None, eager_sharding=False)");
  EXPECT_EQ(account(to_linen_var(variable)),
            account(eval("meta.Partitioned(jnp.ones(2), ('x',))")));
}

TEST(BridgeVariables, ALeafBecomesTheVariableItWas) {
  const nb::object oracle = eval("nnx.bridge.variables.to_nnx_var");
  for (const char* source : kVariables) {
    const nb::object variable = eval(source);
    const nb::object collection = eval("nnx.variable_name_from_type")(variable.type());
    const nb::object leaf = to_linen_var(variable);
    EXPECT_EQ(account(to_nnx_var(collection, leaf)), account(variable)) << source;
    EXPECT_EQ(account(to_nnx_var(collection, leaf)), account(oracle(collection, leaf))) << source;
  }
}

TEST(BridgeVariables, VanillaMeansNothingOfItsOwn) {
  EXPECT_TRUE(is_vanilla_variable(eval("nnx.Param(1.0)")));
  EXPECT_TRUE(is_vanilla_variable(eval("nnx.Param(1.0, hijax=True)")));
  EXPECT_FALSE(is_vanilla_variable(eval("nnx.Param(1.0, note='mine')")));
}

TEST(BridgeVariables, TheCollectionIsTheHeadOfAKeyPath) {
  const nb::object paths =
      eval("[p for p, _ in jax.tree_util.tree_leaves_with_path({'params': {'w': 1, 'b': 2}})]");
  for (nb::handle path : nb::iter(paths)) EXPECT_EQ(show(get_col_name(path)), "'params'");
}

// --- collections.h

TEST(BridgeCollections, TreesAreThoseOfFlax) {
  const nb::object variables = run(R"(
    class Model(linen.Module):
      @linen.compact
      def __call__(self, x):
        init = linen.with_partitioning(linen.initializers.ones_init(), ('in', 'out'))
        return linen.BatchNorm(use_running_average=False)(linen.Dense(3, kernel_init=init)(x))
    result = Model().init(jax.random.key(0), jnp.ones((2, 4)))
  )");
  const nb::object flat = eval(
      "lambda tree: jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: "
      "isinstance(x, (nnx.Variable, meta.AxisMetadata)))");
  const auto describe = [&](nb::handle tree) {
    std::vector<std::string> rows;
    for (nb::handle pair : nb::iter(flat(tree))) {
      const nb::object key = eval("jax.tree_util.keystr")(pair[0]);
      rows.push_back(nb::cast<std::string>(key) + " " + account(pair[1]));
    }
    return rows;
  };
  // Flax's side refuses annotated values without a mesh unless it is told not to place.
  const nb::object unplaced = run(R"(
    def call(function, argument):
      with nnx.use_eager_sharding(False):
        return function(argument)
    result = call
  )");
  const nb::object to_attrs = nb::cpp_function(&linen_vars_to_nnx_attrs);
  const nb::object to_vars = nb::cpp_function(&nnx_attrs_to_linen_vars);
  const nb::object attrs = unplaced(to_attrs, variables);
  EXPECT_EQ(describe(attrs),
            describe(unplaced(eval("nnx.bridge.variables.linen_vars_to_nnx_attrs"), variables)));
  EXPECT_EQ(describe(to_vars(attrs)),
            describe(unplaced(eval("nnx.bridge.variables.nnx_attrs_to_linen_vars"), attrs)));
  EXPECT_EQ(describe(to_vars(attrs)), describe(variables));
}

TEST(BridgeCollections, ArgumentsStayAsTheyAre) {
  const nb::object variables = eval("{'params': {'b': {'w': jnp.ones(1)}, 'a': jnp.ones(1)}}");
  const std::string before = show(variables);
  nb::dict attrs = linen_vars_to_nnx_attrs(variables);
  EXPECT_EQ(show(attrs.keys()), "['a', 'b']");
  attrs.clear();
  EXPECT_EQ(show(variables), before);
}

// --- context.h and rngs.h, inside a running Linen module

TEST(BridgeContext, IsThatOfTheRunningModule) {
  EXPECT_TRUE(current_linen_module().is_none());
  EXPECT_FALSE(is_linen_initializing());
  std::vector<std::string> seen;
  const nb::object look = nb::cpp_function([&](nb::handle self) {
    EXPECT_TRUE(current_linen_module().is(self));
    seen.emplace_back(is_linen_initializing() ? "init" : "apply");
  });
  run(R"(
    def call(look):
      class Model(linen.Module):
        def __call__(self):
          look(self)
      Model().init({})
      Model().apply({})
    result = call
  )")(look);
  EXPECT_THAT(seen, ElementsAre("init", "apply"));
}

TEST(BridgeRngs, KeysAreThoseThatLinenDraws) {
  nb::object keys;
  const nb::object look = nb::cpp_function([&](nb::handle self) { keys = linen_rngs_dict(self); });
  const nb::object call = run(R"(
    class Model(linen.Module):
      def __call__(self, look):
        look(self)
    rngs = {'params': jax.random.key(0), 'dropout': jax.random.key(1)}
    oracle = lambda self: drawn.update({k: self.make_rng(k) for k in rngs})
    drawn = {}
    def call(look):
      Model().apply({}, oracle, rngs=rngs)
      Model().apply({}, look, rngs=rngs)
      return drawn
    result = call
  )");
  const nb::object drawn = call(look);
  EXPECT_TRUE(same_bits(keys, drawn)) << show(keys);
  nb::object filled;
  call(nb::cpp_function([&](nb::handle self) { filled = linen_rngs_dict(self, true); }));
  EXPECT_EQ(show(filled["default"]), "0");
}

TEST(BridgeRngs, EveryFormOfRngsBecomesKeys) {
  const nb::object rngs = eval("nnx.Rngs(0, dropout=1)");
  const nb::object expected =
      eval("(lambda r: {'params': r.default(), 'dropout': r.dropout()})(nnx.Rngs(0, dropout=1))");
  EXPECT_TRUE(same_bits(nnx_rngs_to_linen(rngs), expected));
  EXPECT_EQ(show(rngs.attr("default").attr("count").attr("get_value")()),
            show(eval("jnp.uint32(1)")));
  const nb::object key = eval("jax.random.key(3)");
  EXPECT_TRUE(nnx_rngs_to_linen(key)["params"].is(key));
  EXPECT_EQ(show(nnx_rngs_to_linen(eval("{'default': 1, 'x': 2}"))), "{'x': 2, 'params': 1}");
  EXPECT_EQ(show(nnx_rngs_to_linen(eval("{'default': 1, 'params': 2}"))),
            "{'default': 1, 'params': 2}");
  EXPECT_EQ(show(nnx_rngs_to_linen(nb::none())), "{}");
}

}  // namespace

}  // namespace nnx_wrappers::testing
