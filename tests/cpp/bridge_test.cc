// The public headers, called from C++ and held against flax.nnx.bridge where it can do
// the same. (tests/python compares far more; here it is the C++ side that counts.)
#include <array>
#include <type_traits>

#include "nnx_wrappers/nnx_wrappers.h"
#include "support.h"

namespace nnx_wrappers::testing {

namespace {

// Type, value bits and metadata of a Variable, a box or a raw value, as text.
std::string account(nb::handle object) {
  return nb::cast<std::string>(run(R"(
    def account(x):
      if isinstance(x, nnx.Variable):
        return repr((type(x).__name__, np.asarray(x.get_raw_value()).tobytes(),
                     sorted(x.get_metadata().items(), key=str)))
      if isinstance(x, nnx.bridge.NNXMeta):
        return repr(('NNXMeta', x.var_type.__name__, np.asarray(x.value).tobytes(),
                     sorted(x.metadata.items(), key=str)))
      if isinstance(x, meta.AxisMetadata):
        return repr((type(x).__name__, np.asarray(x.unbox()).tobytes(),
                     sorted((k, v) for k, v in vars(x).items() if k != 'value')))
      return repr((np.asarray(x).dtype, np.asarray(x).tobytes()))
    result = account
  )")(object));
}

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

// --- lazy_init.h, to_nnx.h

TEST(BridgeLazyInit, RunsTheModuleOrOneOfItsMethods) {
  const nb::object model = run(R"(
    class Model(nnx.Module):
      def __init__(self):
        self.dense = nnx_wrappers.ToNNX(linen.Dense(3), rngs=nnx.Rngs(0))
      def encode(self, x, *, scale):
        return self.dense(x) * scale
    result = Model()
  )");
  const nb::object method = model.attr("encode");
  nb::dict kwargs;
  kwargs["scale"] = 2;
  EXPECT_TRUE(lazy_init(method, nb::make_tuple(eval("jnp.ones((1, 2))")), kwargs).is(method));
  EXPECT_EQ(show(model.attr("dense").attr("kernel").attr("shape")), "(2, 3)");
  EXPECT_EQ(show(model.attr("_pytree__state").attr("initializing")), "False");
}

TEST(BridgeLazyInit, AFailureTakesEverythingBack) {
  const nb::object model = run(R"(
    class Model(nnx.Module):
      def __init__(self):
        self.dense = nnx_wrappers.ToNNX(linen.Dense(3), rngs=nnx.Rngs(0))
        self.calls = nnx.Variable(jnp.zeros(()))
      def __call__(self, x):
        self.dense(x)
        self.calls[...] += 1
        self.new = 1
        raise ZeroDivisionError
    result = Model()
  )");
  const std::string before = show(eval("nnx.state")(model));
  const Error error =
      error_of([&] { lazy_init(model, nb::make_tuple(eval("jnp.ones((1, 2))")), nb::dict()); });
  EXPECT_TRUE(error.is_a(PyExc_ZeroDivisionError));
  EXPECT_EQ(show(eval("nnx.state")(model)), before);
  EXPECT_FALSE(nb::hasattr(model, "new"));
  EXPECT_EQ(show(model.attr("_pytree__state").attr("initializing")), "False");
}

constexpr const char* kBatchNorm =
    "linen.Sequential([linen.Dense(4), linen.BatchNorm(use_running_average=False)])";

TEST(BridgeToNNX, ComputesWhatFlaxsBridgeComputes) {
  const nb::object x = eval("jax.random.normal(jax.random.key(1), (8, 3))");
  const nb::object oracle =
      eval("lambda m: nnx.bridge.ToNNX(m, rngs=nnx.Rngs(0))")(eval(kBatchNorm));
  oracle.attr("lazy_init")(x);
  ToNNX model(eval(kBatchNorm), eval("nnx.Rngs(0)"));
  model.lazy_init(nb::make_tuple(x));
  const nb::object variables = eval(
      "lambda m: nnx.bridge.variables.nnx_attrs_to_linen_vars("
      "{k: v for k, v in vars(m).items() if k.startswith('layers')})");
  EXPECT_TRUE(same_bits(model.variables(), variables(oracle)));
  ToNNXCall options;
  options.mutable_ = eval("['batch_stats']");
  EXPECT_TRUE(same_bits(model.call(nb::make_tuple(x), nb::dict(), options),
                        oracle(x, nb::arg("mutable") = options.mutable_)));
  EXPECT_TRUE(same_bits(model.variables(), variables(oracle)));  // batch_stats moved alike
}

TEST(BridgeToNNX, ACallTakesRngsMethodAndMutable) {
  const nb::object linen_model = run(R"(
    class Model(linen.Module):
      def setup(self):
        self.dropout = linen.Dropout(0.5, deterministic=False)
        self.count = self.variable('state', 'count', lambda: jnp.zeros(()))
      def __call__(self, x):
        return x
      def noisy(self, x, *, scale):
        self.count.value += 1
        return self.dropout(x) * scale
    result = Model()
  )");
  const nb::object x = eval("jnp.ones((4, 4))");
  ToNNX model(linen_model, nb::none());
  model.lazy_init(nb::make_tuple(x));
  ToNNXCall options;
  options.rngs = eval("{'dropout': jax.random.key(5)}");
  options.method = nb::str("noisy");
  nb::dict kwargs;
  kwargs["scale"] = 2.0;
  const nb::object native = eval(
      "lambda m, x: m.apply({'state': {'count': jnp.zeros(())}}, x, scale=2.0, method='noisy', "
      "rngs={'dropout': jax.random.key(5)}, mutable='state')")(linen_model, x);
  EXPECT_TRUE(same_bits(model.call(nb::make_tuple(x), kwargs, options), native[0]));
  EXPECT_TRUE(same_bits(model.variables(), native[1]));
  options.mutable_ = nb::bool_(false);
  const Error error = error_of([&] { model.call(nb::make_tuple(x), kwargs, options); });
  EXPECT_TRUE(error.is_a(eval("__import__('flax').errors.ModifyScopeVariableError")));
  EXPECT_TRUE(same_bits(model.variables(), native[1]));
}

TEST(BridgeToNNX, NeedsNothingButTheLinenModule) {
  EXPECT_TRUE((std::is_constructible_v<ToNNX, nb::handle>));
  EXPECT_TRUE((std::is_constructible_v<ToNNX, nb::object>));  // what C++ code holds
}

TEST(BridgeToNNX, TakesAnObjectThatIsOneAlready) {
  const nb::object object = eval("nnx_wrappers.ToNNX(linen.Dense(2))");
  EXPECT_TRUE(ToNNX::from(object).object().is(object));
}

TEST(BridgeToNNX, MethodsOfTheLinenClassAreAttributes) {
  const nb::object model = eval("nnx_wrappers.ToNNX(linen.Embed(5, 2), rngs=nnx.Rngs(0))");
  model.attr("lazy_init")(eval("jnp.arange(3)"));
  const nb::object attend = to_nnx::attribute(model, nb::str("attend"));
  EXPECT_TRUE(attend.attr("__self__").is(model));
  const nb::object query = eval("jnp.ones((1, 2))");
  const nb::object native = eval("lambda v, q: linen.Embed(5, 2).apply(v, q, method='attend')");
  EXPECT_TRUE(same_bits(attend(query), native(to_nnx::variables(model), query)));
}

TEST(BridgeToNNX, ReleasedRngsAreNoState) {
  const nb::object model = eval("nnx_wrappers.ToNNX(linen.Dense(2), rngs=nnx.Rngs(0))");
  ASSERT_GT(nb::len(eval("nnx.state")(model)), 0);
  to_nnx::release_rngs(model);
  EXPECT_EQ(nb::len(eval("nnx.state")(model)), 0);
}

TEST(BridgeToNNX, ContainersWithDataAreMarked) {
  const nb::object plain = eval("[1, 2]");
  EXPECT_TRUE(to_nnx::attribute_value(plain).is(plain));
  const nb::object data = eval("[jnp.ones(1)]");
  const nb::object module = eval("nnx.Module()");
  EXPECT_TRUE(error_of([&] { nb::setattr(module, "data", data); }).is_a(PyExc_ValueError));
  nb::setattr(module, "data", to_nnx::attribute_value(data));
  EXPECT_TRUE(module.attr("data").is(data));
}

TEST(BridgeToNNX, LayersComeInExecutionOrderOnce) {
  const nb::object model = run(R"(
    model = nnx_wrappers.ToNNX(linen.Dense(2))
    for name in ('layers_1', 'layers_0', 'moe_layers', 'dense_layers_0'):
      setattr(model, name, nnx.Linear(1, 1, rngs=nnx.Rngs(0)))
    model.layers = model.layers_0
    result = model
  )");
  const nb::list layers = to_nnx::get_layers(model);
  const nb::object expected =
      eval("lambda m: [m.dense_layers_0, m.moe_layers, m.layers, m.layers_1]")(model);
  ASSERT_EQ(layers.size(), nb::len(expected));
  for (size_t i = 0; i < layers.size(); ++i) EXPECT_TRUE(layers[i].is(expected[i])) << i;
}

// --- to_linen.h

TEST(BridgeToLinen, ComputesWhatFlaxsBridgeComputes) {
  nb::dict kwargs;
  kwargs["use_bias"] = false;
  const ToLinen model(eval("nnx.Linear"), nb::make_tuple(3, 4), kwargs);
  const nb::object oracle =
      eval("nnx.bridge.ToLinen(nnx.Linear, args=(3, 4), kwargs=FrozenDict(use_bias=False))");
  const nb::object x = eval("jnp.ones((2, 3))");
  const nb::object key = eval("jax.random.key(0)");
  const nb::tuple made = model.init_with_output(key, nb::make_tuple(x));
  EXPECT_TRUE(same_bits(made, oracle.attr("init_with_output")(key, x)));
  EXPECT_TRUE(same_bits(model.apply(made[1], nb::make_tuple(x)), oracle.attr("apply")(made[1], x)));
}

TEST(BridgeToLinen, TakesItsOptions) {
  const nb::object augmented = run(R"(
    class Scale(nnx.Module):
      def __init__(self, size):
        self.w = nnx.Param(jnp.full(size, 2.0), note='mine')
      def __call__(self, x):
        return x * self.w
      def halve(self, x):
        return x / self.w
    def augment(module, name):
      module.name = nnx.static(name)
      module.extra = nnx.Param(jnp.ones(1))
      return module
    result = Scale, augment
  )");
  ToLinenOptions options;
  options.skip_rng = true;
  options.metadata_fn = nb::none();
  options.augment_fn = augmented[1];
  options.name = nb::str("scale");
  const ToLinen model(augmented[0], nb::make_tuple(3), nb::dict(), options);
  const nb::object x = eval("jnp.ones(3)");
  const nb::tuple made = model.init_with_output(nb::dict(), nb::make_tuple(x));
  EXPECT_EQ(show(eval("lambda v: jax.tree.map(jnp.shape, v)")(made[1])),
            "{'params': {'extra': (1,), 'w': (3,)}}");
  EXPECT_EQ(show(model.object().attr("name")), "'scale'");
  nb::dict kwargs;
  kwargs["nnx_method"] = "halve";
  EXPECT_TRUE(same_bits(model.apply(made[1], nb::make_tuple(x), kwargs), eval("jnp.full(3, 0.5)")));
  ToLinenOptions defaults;
  defaults.skip_rng = true;
  const ToLinen boxed(augmented[0], nb::make_tuple(3), nb::dict(), defaults);
  EXPECT_EQ(
      show(boxed.init_with_output(nb::dict(), nb::make_tuple(x))[1]["params"]["w"].type().attr(
          "__name__")),
      "'NNXMeta'");
}

TEST(BridgeToLinen, PartialFieldsKeepWhatTheClassFixed) {
  const nb::dict fixed =
      nb::cast<nb::dict>(eval("{'args': (), 'skip_rng': True, 'kwargs': {'a': 1}}"));
  const nb::dict given =
      nb::cast<nb::dict>(eval("{'args': (1,), 'skip_rng': None, 'kwargs': {'b': 2}}"));
  const nb::dict fields = to_linen::partial_fields(fixed, given);
  EXPECT_TRUE(fields.equal(
      eval("{'args': (1,), 'skip_rng': True, 'kwargs': FrozenDict({'a': 1, 'b': 2})}")))
      << show(fields);
  EXPECT_EQ(show(fixed), "{'args': (), 'skip_rng': True, 'kwargs': {'a': 1}}");
  EXPECT_EQ(show(to_linen::class_name(eval("functools.partial(nnx.Linear, 3)"))),
            "'LinearToLinen'");
}

TEST(BridgeToLinen, StreamsFallBackAsLinensDo) {
  const nb::object rngs = eval("nnx.Rngs(params=0, dropout=1)");
  const nb::handle error = PyExc_KeyError;
  EXPECT_TRUE(to_linen::stream(rngs, nb::str("dropout"), error).is(rngs.attr("dropout")));
  EXPECT_TRUE(to_linen::stream(rngs, nb::str("noise"), error).is(rngs.attr("params")));
  const nb::object with_default = eval("nnx.Rngs(0, params=1)");
  EXPECT_TRUE(
      to_linen::stream(with_default, nb::str("noise"), error).is(with_default.attr("default")));
  EXPECT_TRUE(error_of([&] {
                to_linen::stream(eval("nnx.Rngs(dropout=1)"), nb::str("noise"), error);
              }).is_a(PyExc_KeyError));
}

// --- nnx_meta.h, functional.h

TEST(BridgeNnxMeta, AxesComeAndGoInTheShardingNames) {
  const nb::object box =
      eval("nnx_wrappers.NNXMeta(nnx.Param, jnp.ones((2, 3)), {'out_sharding': ('in', 'out')})");
  const nb::object params = eval("{linen.PARTITION_NAME: 'layers'}");
  const nb::object added = nnx_meta_add_axis(box, 1, params);
  EXPECT_EQ(show(added.attr("metadata")["out_sharding"]), "('in', 'layers', 'out')");
  const nb::object removed = nnx_meta_remove_axis(added, 1, params);
  EXPECT_EQ(account(removed), account(box));
  EXPECT_EQ(account(nnx_meta_to_variable(box)), account(box.attr("to_nnx_variable")()));
  EXPECT_EQ(show(nnx_meta_add_axis(box, -1, eval("{}")).attr("metadata")["out_sharding"]),
            "('in', 'out', None)");
}

TEST(BridgeFunctional, IsAPairOfPureFunctions) {
  const nb::object ours = eval("nnx_wrappers.functional(nnx.Linear)(2, 3)");
  const nb::object oracle = eval("nnx.bridge.functional(nnx.Linear)(2, 3)");
  const nb::object state = functional_init(ours, eval("nnx.Rngs(0)"));
  const nb::object expected = oracle.attr("init")(nb::arg("rngs") = eval("nnx.Rngs(0)"));
  EXPECT_TRUE(same_bits(state, expected));
  const nb::object x = eval("jnp.ones((1, 2))");
  EXPECT_TRUE(same_bits(functional_apply(ours, nb::make_tuple(state))(x)[nb::int_(0)],
                        oracle.attr("apply")(expected)(x)[nb::int_(0)]));
}

TEST(BridgeFunctional, PartitioningBecomesALinenBox) {
  const nb::object init =
      with_partitioning(eval("nnx.initializers.ones_init()"), eval("('in', 'out')"), nb::none());
  const nb::object expected =
      eval("nnx.bridge.with_partitioning(nnx.initializers.ones_init(), ('in', 'out'))");
  const nb::object key = eval("jax.random.key(0)");
  const nb::object made = init(key, nb::make_tuple(2, 3));
  const nb::object reference = expected(key, nb::make_tuple(2, 3));
  EXPECT_EQ(show(made.attr("metadata")), show(reference.attr("metadata")));
  EXPECT_TRUE(same_bits(made.attr("raw_value"), reference.attr("raw_value")));
  EXPECT_TRUE(made.attr("metadata")["linen_meta_type"].is(eval("linen.Partitioned")));
}

}  // namespace

}  // namespace nnx_wrappers::testing
