// The engine behind construction plans: graphs kept without their values, and keys for
// static values. nnx.split is the oracle for what an instance is.
#include "graph/template.h"

#include <array>

#include "graph/static_key.h"
#include "graph/static_value.h"
#include "support.h"

namespace nnx_wrappers::testing {

namespace {

using graph::StaticPolicy;
using graph::Template;

graph::Kept keep_nothing(nb::handle, nb::handle, nb::handle) { return graph::Kept::kNot; }

Template capture(nb::handle root, std::vector<nb::object>& values) {
  graph::Captured captured;
  Template made = Template::capture(root, {}, keep_nothing, captured);
  values = std::move(captured.values);
  return made;
}

// Modules as constructors make them.
constexpr auto kModels = std::to_array<const char*>({
    "nnx.Linear(2, 3, rngs=nnx.Rngs(0))",
    "nnx.BatchNorm(3, rngs=nnx.Rngs(0))",
    "nnx.Dropout(0.5, rngs=nnx.Rngs(0))",
    "nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0, dropout=1))",
    "nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.relu)",
    "nnx.LSTMCell(2, 3, rngs=nnx.Rngs(0))",
    "shared()",
});

nb::object model(const char* source) {
  return run(R"(
    class Model(nnx.Module): pass
    def shared():
      model = Model()
      model.a = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      model.b = model.a
      model.c = nnx.List([model.a.kernel, nnx.Param({'x': jnp.ones(1)}, note='mine')])
      model.d = nnx.data({'z': (jnp.ones(1), None), 'a': [nnx.Cache(jnp.zeros(1))]})
      model.e = [1, {'static': (2, 'text')}]
      model.up = nnx.data([model])
      return model
    result = lambda source: eval(source, globals())
  )")(source);
}

class GraphTemplate : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(, GraphTemplate, ::testing::ValuesIn(kModels),
                         [](const auto& info) { return "Model" + std::to_string(info.index); });

TEST_P(GraphTemplate, AnInstanceIsTheGraphThatWasCaptured) {
  const nb::object root = model(GetParam());
  std::vector<nb::object> values;
  const Template kept = capture(root, values);
  ASSERT_EQ(kept.slots().size(), values.size());
  const nb::object instance = kept.instantiate(values);
  EXPECT_FALSE(instance.is(root));
  const nb::object split = eval("lambda m: nnx.split(m, graph=True)");
  const nb::object expected = split(root);
  const nb::object made = split(instance);
  EXPECT_TRUE(made[0].equal(expected[0])) << show(made[0]);  // the graphdef: types, sharing
  EXPECT_TRUE(same_bits(made[1], expected[1]));
}

std::vector<std::string> slot_paths(nb::handle root) {
  std::vector<nb::object> values;
  const Template kept = capture(root, values);
  nb::list paths;
  for (const graph::Slot& slot : kept.slots()) paths.append(graph::to_tuple(slot.path));
  return texts(eval("sorted")(paths, nb::arg("key") = eval("str")));
}

std::vector<std::string> flax_paths(nb::handle root) {
  return texts(eval("lambda m: sorted(graphlib.flatten(m, graph=True)[1].paths, key=str)")(root));
}

TEST_P(GraphTemplate, SlotsHaveThePathsOfFlaxsLeaves) {
  const nb::object root = model(GetParam());
  EXPECT_EQ(slot_paths(root), flax_paths(root));
}

// Flax knows a shared node by its first path in sorted order, whichever attribute was
// set first; variables are given by that path.
TEST(GraphTemplateRules, ASharedNodeHasThePathThatFlaxGivesIt) {
  const nb::object root = run(R"(
    class Model(nnx.Module):
      def __init__(self):
        self.embed = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        self.decoder = self.embed
    result = Model()
  )");
  EXPECT_EQ(slot_paths(root), flax_paths(root));
}

TEST_P(GraphTemplate, InstancesShareNothingThatCanChange) {
  const nb::object root = model(GetParam());
  std::vector<nb::object> values;
  const Template kept = capture(root, values);
  const nb::object identities = run(R"(
    def mutable_ids(root):
      found = {}
      def add(x):
        if id(x) in found or isinstance(x, (str, int, float, jax.Array, type(None))): return
        if isinstance(x, (list, dict, nnx.Pytree, nnx.Variable)): found[id(x)] = x
        if isinstance(x, dict): children = list(x.values())
        elif isinstance(x, (list, tuple)): children = list(x)
        elif isinstance(x, nnx.Variable): children = [x.get_metadata(), x.get_raw_value()]
        elif isinstance(x, nnx.Pytree): children = list(vars(x).values()) + [vars(x)]
        else: children = []
        for child in children: add(child)
        keep.append(x)
      keep = []
      add(root)
      return set(found), keep
    def common(left, right):
      (a, keep_a), (b, keep_b) = mutable_ids(left), mutable_ids(right)
      return len(a & b), len(a)
    result = common
  )");
  // Values belong to the caller: each instance is given its own containers.
  const nb::object copies = eval("lambda values: [jax.tree.map(lambda x: x, v) for v in values]");
  const auto fresh = [&] { return nb::cast<std::vector<nb::object>>(copies(nb::cast(values))); };
  const nb::object first = kept.instantiate(fresh());
  const nb::object second = kept.instantiate(fresh());
  const nb::object shared = identities(first, second);
  EXPECT_EQ(nb::cast<int>(shared[0]), 0);
  EXPECT_GT(nb::cast<int>(shared[1]), 0);
}

TEST(GraphTemplateRules, WhatCannotBeKeptIsRefusedWithItsPath) {
  const nb::object models = run(R"(
    class Model(nnx.Module):
      def __init__(self, value):
        self.inner = nnx.Module()
        self.inner.value = value
      def method(self): pass
    model = Model(1)
    model.inner.value = model.method
    result = [Model(object()), model, Model(jax.new_ref(jnp.ones(1))),
              Model(nnx.Param(jnp.ones(1), hijax=True))]
  )");
  for (nb::handle refused : nb::iter(models)) {
    std::vector<nb::object> values;
    try {
      capture(refused, values);
      ADD_FAILURE() << show(refused);
    } catch (const graph::Refusal& refusal) {
      EXPECT_THAT(refusal.what(), HasSubstr("inner"));
    }
  }
}

TEST(GraphStaticValue, IsKeptByWhatItIsMadeOf) {
  const nb::object opaque = eval("object()");
  py::IdentitySet given;
  given.insert(opaque);
  const graph::Shared shared(given);
  const auto policy = [&](const char* source) { return graph::policy_of(eval(source), shared); };
  for (const char* source : {"1", "'text'", "(1, ('a', None))", "nnx.relu", "len", "nnx.Linear",
                             "functools.partial(nnx.gelu, approximate=True)", "jnp.float32",
                             "FrozenDict({'a': 1})", "jax.sharding.PartitionSpec('x')"}) {
    EXPECT_EQ(policy(source), StaticPolicy::kShare) << source;
  }
  for (const char* source : {"[1, 2]", "{'a': [1]}", "{1, 2}", "(1, [2])"}) {
    EXPECT_EQ(policy(source), StaticPolicy::kCopy) << source;
  }
  for (const char* source : {"object()", "[object()]", "[].append", "linen.Dense(2)",
                             "(lambda x: lambda: x)([])", "type('L', (list,), {})()"}) {
    EXPECT_EQ(policy(source), StaticPolicy::kRefuse) << source;
  }
  EXPECT_EQ(graph::policy_of(opaque, shared), StaticPolicy::kShare);
}

// --- keys of static values

TEST(FlaxStaticKey, EqualValuesOfOneTypeHaveEqualKeys) {
  for (const char* source :
       {"1", "1.5", "'a'", "None", "(1, [2, {'a': 3}])", "FrozenDict({'a': 1})", "jnp.float32",
        "functools.partial(nnx.gelu, approximate=True)", "linen.Dense(3)", "np.dtype('int8')",
        "jax.sharding.PartitionSpec('x', None)"}) {
    const nb::object key = graph::static_key(eval(source));
    const nb::object again = graph::static_key(eval(source));
    ASSERT_TRUE(key.is_valid() && again.is_valid()) << source;
    EXPECT_TRUE(key.equal(again)) << source;
    EXPECT_EQ(nb::hash(key), nb::hash(again)) << source;
  }
}

TEST(FlaxStaticKey, TypesAndSignsAreToldApart) {
  const auto values = std::to_array<const char*>({"1",
                                                  "1.0",
                                                  "True",
                                                  "1 + 0j",
                                                  "'1'",
                                                  "b'1'",
                                                  "(1,)",
                                                  "[1]",
                                                  "{'a': 1}",
                                                  "FrozenDict({'a': 1})",
                                                  "0.0",
                                                  "-0.0",
                                                  "{'a': 1, 'b': 2}",
                                                  "{'b': 2, 'a': 1}",
                                                  "np.int32(1)",
                                                  "np.dtype('int32')",
                                                  "np.dtype('l')",
                                                  "np.dtype('q')",
                                                  "np.float32",
                                                  "jnp.float32",
                                                  "linen.Dense(1)",
                                                  "linen.Dense(2)",
                                                  "nnx.relu",
                                                  "nnx.gelu",
                                                  "float('nan')"});
  for (size_t i = 0; i < values.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const nb::object left = graph::static_key(eval(values[i]));
      const nb::object right = graph::static_key(eval(values[j]));
      if (!left.is_valid() || !right.is_valid()) continue;
      EXPECT_FALSE(left.equal(right)) << values[i] << " and " << values[j];
    }
  }
}

TEST(FlaxStaticKey, WhatHasStateHasNone) {
  for (const char* source : {"jnp.ones(1)", "np.ones(1)", "object()", "[object()]", "nnx.Param(1)",
                             "nnx.Rngs(0)", "(lambda x: lambda: x)(jnp.ones(1))",
                             "np.dtype([('a', 'i4')])", "np.dtype('f4', metadata={'a': 1})"}) {
    EXPECT_FALSE(graph::static_key(eval(source)).is_valid()) << source;
  }
  const nb::object opaque = eval("object()");
  const nb::object key = graph::static_key(opaque, graph::Unknown::kByIdentity);
  EXPECT_TRUE(key.equal(graph::static_key(opaque, graph::Unknown::kByIdentity)));
  EXPECT_FALSE(graph::static_key(eval("nnx.Rngs(0)"), graph::Unknown::kByIdentity).is_valid());
}

TEST(FlaxStaticKey, FunctionsAreToldApartByWhatTheyCloseOver) {
  const nb::object make = eval("lambda x: lambda: x");
  const nb::object one = graph::static_key(make(1));
  EXPECT_TRUE(one.equal(graph::static_key(make(1))));
  EXPECT_FALSE(one.equal(graph::static_key(make(2))));
  EXPECT_FALSE(one.equal(graph::static_key(make(1.0))));
}

// A key may be a number made of an address: it must not come to mean another class.
TEST(FlaxStaticKey, AKeyKeepsNoClassAliveAndIsNeverTakenOver) {
  const nb::object make = eval("lambda: type('Fresh', (), {})");
  nb::object type = make();
  const nb::object alive = eval("__import__('weakref').ref")(type);
  const nb::object key = graph::static_key(type);
  ASSERT_TRUE(key.is_valid());
  type = nb::none();
  eval("__import__('gc').collect()");
  EXPECT_TRUE(alive().is_none());
  for (int i = 0; i < 200; ++i) {
    EXPECT_FALSE(key.equal(graph::static_key(make())));
    eval("__import__('gc').collect(0)");
  }
}

}  // namespace

}  // namespace nnx_wrappers::testing
