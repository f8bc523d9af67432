// ToNNX, ToLinen and what belongs to them, called from C++ and held against flax.nnx.bridge.
#include <type_traits>

#include "bridge/compat/decoder_layers.h"
#include "bridge/compat/functional.h"
#include "bridge/convert/nnx_meta.h"
#include "bridge/to_linen/python_methods.h"
#include "bridge/to_nnx/python_methods.h"
#include "nnx_wrappers/nnx_wrappers.h"
#include "support.h"

namespace nnx_wrappers::testing {

namespace {

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
  const nb::object of_a_subclass =
      eval("type('Mine', (nnx_wrappers.ToNNX,), {})(linen.Dense(2), rngs=nnx.Rngs(0))");
  ToNNX model = ToNNX::from(of_a_subclass);
  const nb::object x = eval("jnp.ones((1, 3))");
  const nb::object y = model.lazy_init(nb::make_tuple(x)).call(nb::make_tuple(x));
  EXPECT_TRUE(same_bits(y, of_a_subclass(x)));
}

TEST(BridgeToNNX, IsCalledWithWhatCanBeCastToPython) {
  const nb::object scale = run(R"(
    class Scale(linen.Module):
      def __call__(self, x, factor, text):
        return x * factor, text
    result = Scale()
  )");
  const ToNNX model(scale);
  const nb::object out = model(eval("jnp.ones(2)"), 3, std::string("as it is"));
  EXPECT_TRUE(same_bits(out[0], eval("jnp.full(2, 3.0)")));
  EXPECT_EQ(show(out[1]), "'as it is'");
}

TEST(BridgeToNNX, MethodsOfTheLinenClassAreAttributes) {
  const nb::object model = eval("nnx_wrappers.ToNNX(linen.Embed(5, 2), rngs=nnx.Rngs(0))");
  model.attr("lazy_init")(eval("jnp.arange(3)"));
  const nb::object attend = bridge::to_nnx::attribute(model, nb::str("attend"));
  EXPECT_TRUE(attend.attr("__self__").is(model));
  const nb::object query = eval("jnp.ones((1, 2))");
  const nb::object native = eval("lambda v, q: linen.Embed(5, 2).apply(v, q, method='attend')");
  EXPECT_TRUE(same_bits(attend(query), native(bridge::to_nnx::variables(model), query)));
}

TEST(BridgeToNNX, ReleasedRngsAreNoState) {
  const nb::object model = eval("nnx_wrappers.ToNNX(linen.Dense(2), rngs=nnx.Rngs(0))");
  ASSERT_GT(nb::len(eval("nnx.state")(model)), 0);
  bridge::to_nnx::release_rngs(model);
  EXPECT_EQ(nb::len(eval("nnx.state")(model)), 0);
}

TEST(BridgeToNNX, ContainersWithDataAreMarked) {
  const nb::object plain = eval("[1, 2]");
  EXPECT_TRUE(bridge::to_nnx::attribute_value(plain).is(plain));
  const nb::object data = eval("[jnp.ones(1)]");
  const nb::object module = eval("nnx.Module()");
  EXPECT_TRUE(error_of([&] { nb::setattr(module, "data", data); }).is_a(PyExc_ValueError));
  nb::setattr(module, "data", bridge::to_nnx::attribute_value(data));
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
  const nb::list layers = bridge::decoder_layers(model);
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
  EXPECT_TRUE(same_bits(model.init(key, nb::make_tuple(x)), oracle.attr("init")(key, x)));
  EXPECT_TRUE(same_bits(model(made[1], x), oracle.attr("apply")(made[1], x)));
}

TEST(BridgeToLinen, TakesAnObjectThatIsOneAlready) {
  const nb::object object = eval("nnx_wrappers.to_linen_class(nnx.Linear)(args=(3, 4))");
  const ToLinen model = ToLinen::from(object);
  EXPECT_TRUE(model.object().is(object));
  const nb::object x = eval("jnp.ones((2, 3))");
  const nb::object key = eval("jax.random.key(0)");
  EXPECT_TRUE(same_bits(model.init(key, nb::make_tuple(x)), object.attr("init")(key, x)));
}

TEST(BridgeToLinen, InitTakesTheMethodByName) {
  const ToLinen model(eval("nnx.Embed"), nb::make_tuple(5, 2));
  nb::dict kwargs;
  kwargs["nnx_method"] = "attend";
  const nb::object made =
      model.init(eval("jax.random.key(0)"), nb::make_tuple(eval("jnp.ones((1, 2))")), kwargs);
  EXPECT_EQ(show(eval("lambda v: jax.tree.map(jnp.shape, v)")(made)),
            "{'params': {'embedding': (5, 2)}}");
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
  const nb::dict fields = bridge::to_linen::partial_fields(fixed, given);
  EXPECT_TRUE(fields.equal(
      eval("{'args': (1,), 'skip_rng': True, 'kwargs': FrozenDict({'a': 1, 'b': 2})}")))
      << show(fields);
  EXPECT_EQ(show(fixed), "{'args': (), 'skip_rng': True, 'kwargs': {'a': 1}}");
  EXPECT_EQ(show(bridge::to_linen::class_name(eval("functools.partial(nnx.Linear, 3)"))),
            "'LinearToLinen'");
}

TEST(BridgeToLinen, StreamsFallBackAsLinensDo) {
  const nb::object rngs = eval("nnx.Rngs(params=0, dropout=1)");
  const nb::handle error = PyExc_KeyError;
  EXPECT_TRUE(bridge::to_linen::stream(rngs, nb::str("dropout"), error).is(rngs.attr("dropout")));
  EXPECT_TRUE(bridge::to_linen::stream(rngs, nb::str("noise"), error).is(rngs.attr("params")));
  const nb::object with_default = eval("nnx.Rngs(0, params=1)");
  EXPECT_TRUE(bridge::to_linen::stream(with_default, nb::str("noise"), error)
                  .is(with_default.attr("default")));
  EXPECT_TRUE(error_of([&] {
                bridge::to_linen::stream(eval("nnx.Rngs(dropout=1)"), nb::str("noise"), error);
              }).is_a(PyExc_KeyError));
}

// --- the methods of NNXMeta and Functional

TEST(BridgeNnxMeta, AxesComeAndGoInTheShardingNames) {
  const nb::object box =
      eval("nnx_wrappers.NNXMeta(nnx.Param, jnp.ones((2, 3)), {'out_sharding': ('in', 'out')})");
  const nb::object params = eval("{linen.PARTITION_NAME: 'layers'}");
  const nb::object added = bridge::nnx_meta_add_axis(box, 1, params);
  EXPECT_EQ(show(added.attr("metadata")["out_sharding"]), "('in', 'layers', 'out')");
  const nb::object removed = bridge::nnx_meta_remove_axis(added, 1, params);
  EXPECT_EQ(account(removed), account(box));
  EXPECT_EQ(account(bridge::nnx_meta_to_variable(box)), account(box.attr("to_nnx_variable")()));
  EXPECT_EQ(show(bridge::nnx_meta_add_axis(box, -1, eval("{}")).attr("metadata")["out_sharding"]),
            "('in', 'out', None)");
}

TEST(BridgeFunctional, IsAPairOfPureFunctions) {
  const nb::object ours = eval("nnx_wrappers.functional(nnx.Linear)(2, 3)");
  const nb::object oracle = eval("nnx.bridge.functional(nnx.Linear)(2, 3)");
  const nb::object state = bridge::functional_init(ours, eval("nnx.Rngs(0)"));
  const nb::object expected = oracle.attr("init")(nb::arg("rngs") = eval("nnx.Rngs(0)"));
  EXPECT_TRUE(same_bits(state, expected));
  const nb::object x = eval("jnp.ones((1, 2))");
  EXPECT_TRUE(same_bits(bridge::functional_apply(ours, nb::make_tuple(state))(x)[nb::int_(0)],
                        oracle.attr("apply")(expected)(x)[nb::int_(0)]));
}

TEST(BridgeFunctional, PartitioningBecomesALinenBox) {
  const nb::object init = bridge::with_partitioning(eval("nnx.initializers.ones_init()"),
                                                    eval("('in', 'out')"), nb::none());
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
