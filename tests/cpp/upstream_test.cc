// The room src/upstream: nodes, variables and Linen's context, held against Flax itself.
#include <array>
#include <optional>
#include <ostream>

#include "nnx_wrappers/errors.h"
#include "py/object.h"
#include "support.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/linen.h"
#include "upstream/node.h"
#include "upstream/variable.h"

namespace nnx_wrappers::testing {

namespace {

using upstream::Child;
using upstream::NodeKind;

std::vector<std::string> keys_of(const std::vector<Child>& children) {
  std::vector<std::string> keys;
  keys.reserve(children.size());
  for (const Child& child : children) keys.push_back(show(child.key));
  return keys;
}

struct Sample {
  const char* source;  // the last line assigns `result`
  NodeKind kind;
};

void PrintTo(const Sample& sample, std::ostream* out) { *out << sample.source; }

// Every kind of object that Flax tells apart.
constexpr auto kSamples = std::to_array<Sample>({
    {"result = 1", NodeKind::kLeaf},
    {"result = 'text'", NodeKind::kLeaf},
    {"result = object()", NodeKind::kLeaf},
    {"result = np.ones(2)", NodeKind::kLeaf},
    {"result = jnp.ones(2)", NodeKind::kLeaf},
    {"result = jax.random.key(0)", NodeKind::kLeaf},
    {"result = nnx.Linear", NodeKind::kLeaf},
    {"result = {1, 2}", NodeKind::kLeaf},
    {"result = type('L', (list,), {})([jnp.ones(2)])", NodeKind::kLeaf},
    {"result = nnx.Param(jnp.ones(2))", NodeKind::kVariable},
    {"result = nnx.BatchStat({'a': jnp.ones(2)})", NodeKind::kVariable},
    {"result = nnx.Param(jnp.ones(2), hijax=True)", NodeKind::kVariable},
    {"result = nnx.Param(jnp.ones(2), ref=True)", NodeKind::kVariable},
    {"result = jax.new_ref(jnp.ones(2))", NodeKind::kArrayRef},
    {"result = nnx.Linear(2, 3, rngs=nnx.Rngs(0))", NodeKind::kPytree},
    {"result = nnx.Rngs(0, dropout=1)", NodeKind::kPytree},
    {"result = nnx.List([nnx.Param(float(i)) for i in range(12)])", NodeKind::kPytree},
    {"result = nnx.Dict(b=nnx.Param(1.0), a=nnx.Param(2.0))", NodeKind::kPytree},
    {"class Box(nnx.Pytree):\n"
     "  def __init__(self): self.z, self.a, self.n = jnp.ones(1), nnx.Param(1.0), 3\n"
     "result = Box()",
     NodeKind::kPytree},
    {"class Old(nnx.Module, pytree=False):\n"
     "  def __init__(self): self.z, self.a, self.n = jnp.ones(1), [nnx.Param(1.0)], 3\n"
     "result = Old()",
     NodeKind::kPytree},
    {"result = [nnx.Param(1.0), jnp.ones(1), 'text']", NodeKind::kList},
    {"result = (nnx.Param(1.0), 3, [jnp.ones(1)])", NodeKind::kTuple},
    {"result = {'b': nnx.Param(1.0), 'a': jnp.ones(1), 'c': 3}", NodeKind::kDict},
    {"result = {10: nnx.Param(1.0), 9: nnx.Param(2.0)}", NodeKind::kDict},
    {"result = None", NodeKind::kPytreeNode},
    {"result = FrozenDict({'b': jnp.ones(1), 'a': jnp.ones(2)})", NodeKind::kPytreeNode},
    {"result = collections.namedtuple('Point', 'y x')(jnp.ones(1), jnp.ones(2))",
     NodeKind::kPytreeNode},
    {"result = collections.OrderedDict(b=jnp.ones(1), a=jnp.ones(2))", NodeKind::kPytreeNode},
    {"import optax\nresult = optax.adam(0.1).init({'w': jnp.ones(2)})", NodeKind::kTuple},
    {"import optax\nresult = optax.adam(0.1).init({'w': jnp.ones(2)})[0]", NodeKind::kPytreeNode},
    {"@jax.tree_util.register_dataclass\n"
     "@dataclasses.dataclass\n"
     "class Data:\n"
     "  z: jax.Array\n"
     "  a: jax.Array\n"
     "result = Data(jnp.ones(1), jnp.ones(2))",
     NodeKind::kPytreeNode},
    {"class Node:\n"
     "  def __init__(self): self.z, self.a = nnx.Param(1.0), jnp.ones(1)\n"
     "graphlib.register_graph_node_type(\n"
     "  Node, lambda n: (sorted(vars(n).items()), None), setattr, delattr,\n"
     "  lambda _: Node.__new__(Node), lambda n: vars(n).clear(),\n"
     "  lambda n, pairs: vars(n).update(pairs))\n"
     "result = Node()",
     NodeKind::kGraphNode},
});

class FlaxNode : public ::testing::TestWithParam<Sample> {};

INSTANTIATE_TEST_SUITE_P(, FlaxNode, ::testing::ValuesIn(kSamples),
                         [](const auto& info) { return "Sample" + std::to_string(info.index); });

bool is_value(NodeKind kind) {
  return kind == NodeKind::kLeaf || kind == NodeKind::kVariable || kind == NodeKind::kArrayRef;
}

TEST_P(FlaxNode, KindIsTheOneThatFlaxSees) {
  const nb::object object = run(GetParam().source);
  EXPECT_EQ(upstream::kind_of(object), GetParam().kind) << GetParam().source;
  EXPECT_EQ(nb::cast<bool>(eval("graphlib.is_node")(object)), !is_value(GetParam().kind));
  const bool has_identity = nb::cast<bool>(eval("graphlib.is_graph_node")(object));
  EXPECT_EQ(upstream::has_identity(GetParam().kind), has_identity) << GetParam().source;
}

// Flax's own flatten gives every attribute; static ones and values that Flax would
// call static are no children.
TEST_P(FlaxNode, ChildrenAreThoseOfFlaxInItsOrder) {
  const nb::object object = run(GetParam().source);
  if (is_value(GetParam().kind)) {
    EXPECT_THROW(upstream::children_of(object, GetParam().kind), InternalError);
    return;
  }
  const nb::object oracle = run(R"(
    def children(node):
      if node is None:
        return []
      pairs = []
      for key, value in graphlib.get_node_impl(node).flatten(node)[0]:
        tagged = isinstance(value, graphlib.DataElem)
        if key == '_pytree__state':  # flags, a node without leaves
          continue
        if isinstance(value, (graphlib.DataElem, graphlib.StaticElem)):
          if not tagged:
            continue
          value = value.value
        leaf = not (graphlib.is_node(value) or graphlib.is_graph_node(value))
        if leaf and not tagged and not isinstance(value, (jax.Array, np.ndarray)):
          continue
        pairs.append((key, value))
      return pairs
    result = children
  )");
  const auto children = upstream::children_of(object, GetParam().kind);
  const nb::object expected = oracle(object);
  ASSERT_EQ(children.size(), nb::len(expected)) << show(expected);
  for (size_t i = 0; i < children.size(); ++i) {
    const nb::object key = expected[i][0];
    const nb::object value = expected[i][1];
    EXPECT_TRUE(children[i].key.equal(key) && children[i].key.type().is(key.type()))
        << show(children[i].key) << " " << show(key);
    EXPECT_TRUE(children[i].value.is(value) || !upstream::has_identity(children[i].kind));
    EXPECT_EQ(children[i].kind, upstream::kind_of(value));
  }
}

TEST_P(FlaxNode, AChildIsSetInPlaceOrTheNodeIsRebuilt) {
  const nb::object object = run(GetParam().source);
  const NodeKind kind = GetParam().kind;
  if (is_value(kind) || object.is_none()) return;
  auto children = upstream::children_of(object, kind);
  ASSERT_FALSE(children.empty());
  const nb::object mark = eval("jnp.full(1, 42.0)");
  children.front().value = mark;
  nb::object changed = object;
  if (!upstream::set_child(object, kind, children.front().key, mark)) {
    changed = upstream::rebuild(object, kind, children);
    EXPECT_FALSE(changed.is(object));
    EXPECT_TRUE(changed.type().is(object.type()));
    EXPECT_FALSE(upstream::children_of(object, kind).front().value.is(mark));  // left as it was
  }
  const auto after = upstream::children_of(changed, kind);
  ASSERT_EQ(keys_of(after), keys_of(children));
  EXPECT_TRUE(after.front().value.is(mark) || upstream::is_variable(after.front().value));
  for (size_t i = 1; i < after.size(); ++i) {
    EXPECT_TRUE(after[i].value.is(children[i].value)) << show(after[i].key);
  }
}

TEST(FlaxNodeRules, StaticAttributesAreNoChildren) {
  const nb::object module = run(R"(
    class Model(nnx.Module):
      def __init__(self):
        self.b = nnx.Param(1.0)
        self.a = nnx.data(3)
        self.fixed = nnx.static((1, 2))
        self.size = 3
        self.none = None
    result = Model()
  )");
  EXPECT_THAT(keys_of(upstream::children_of(module, NodeKind::kPytree)), ElementsAre("'a'", "'b'"));
}

TEST(FlaxNodeRules, RebuildKeepsWhatIsStatic) {
  const nb::object tuple = eval("(1, jnp.ones(1), 'text', jnp.zeros(1))");
  auto children = upstream::children_of(tuple, NodeKind::kTuple);
  ASSERT_THAT(keys_of(children), ElementsAre("1", "3"));
  children[0].value = nb::str("new");
  EXPECT_EQ(show(upstream::rebuild(tuple, NodeKind::kTuple, children)[nb::int_(1)]), "'new'");
  EXPECT_EQ(show(upstream::rebuild(tuple, NodeKind::kTuple, children)[nb::int_(2)]), "'text'");
}

// --- variables

TEST(FlaxVariable, IsWhatFlaxCallsAVariable) {
  for (const char* source :
       {"nnx.Param(1)", "nnx.Param(1, hijax=True)", "nnx.Variable(1)", "jnp.ones(1)", "nnx.Param",
        "None", "nnx.Rngs(0)", "nnx.bridge.NNXMeta(nnx.Param, 1, {})"}) {
    const nb::object object = eval(source);
    const bool expected = nb::cast<bool>(eval("lambda x: isinstance(x, nnx.Variable)")(object));
    EXPECT_EQ(upstream::is_variable(object), expected) << source;
  }
}

TEST(FlaxVariable, TracersOfHijaxVariablesCount) {
  std::optional<bool> seen;
  std::string type;
  const nb::object look = nb::cpp_function([&](nb::handle variable) {
    seen = upstream::is_variable(variable);
    type = py::type_name(upstream::variable_type(variable));
  });
  run(R"(
    def call(look):
      variable = nnx.Param(jnp.ones(2), hijax=True)
      jax.jit(lambda v: look(v))(variable)
    result = call
  )")(look);
  EXPECT_EQ(seen, true);
  EXPECT_EQ(type, "Param");
}

TEST(FlaxVariable, ValuesAreTheStoredOnes) {
  for (const char* source : {"nnx.Param(jnp.arange(3.0))", "nnx.Param(jnp.arange(3.0), hijax=True)",
                             "nnx.Param(jnp.arange(3.0), ref=True)",
                             "nnx.Param(jnp.arange(3.0), on_get_value=lambda v, x: x + 1)"}) {
    const nb::object variable = eval(source);
    EXPECT_TRUE(same_bits(upstream::stored_value(variable), eval("jnp.arange(3.0)"))) << source;
    EXPECT_TRUE(py::type_name(upstream::variable_type(variable)) == "Param") << source;
    upstream::store_value(variable, eval("jnp.ones(3)"));
    EXPECT_TRUE(same_bits(upstream::stored_value(variable), eval("jnp.ones(3)"))) << source;
  }
  const nb::object ref = eval("nnx.Param(jnp.ones(3), ref=True)");
  const nb::object before = upstream::raw_value(ref);
  EXPECT_TRUE(upstream::is_array_ref(before));
  upstream::store_value(ref, eval("jnp.zeros(3)"));
  EXPECT_TRUE(upstream::raw_value(ref).is(before));  // written, not replaced
}

TEST(FlaxVariable, ContainersOfAPytreeValueAreCopied) {
  const nb::object variable = eval("nnx.Param({'a': jnp.ones(2)})");
  const nb::object value = upstream::stored_value(variable);
  EXPECT_FALSE(value.is(upstream::raw_value(variable)));
  EXPECT_TRUE(value["a"].is(upstream::raw_value(variable)["a"]));
}

TEST(FlaxVariable, MetadataIsACopy) {
  const nb::object variable = eval("nnx.Param(1.0, note='mine')");
  nb::dict metadata = upstream::metadata(variable);
  EXPECT_TRUE(metadata.equal(variable.attr("get_metadata")()));
  metadata["note"] = "changed";
  EXPECT_EQ(show(variable.attr("note")), "'mine'");
}

TEST(FlaxVariable, RequiredMetadataIsThatOfANewVariable) {
  nb::dict metadata;
  upstream::add_required_metadata(metadata);
  EXPECT_TRUE(metadata.equal(eval("nnx.Param(1.0).get_metadata()"))) << show(metadata);
  for (nb::handle name : metadata.keys()) EXPECT_TRUE(upstream::is_required_metadata(name));
  EXPECT_FALSE(upstream::is_required_metadata(nb::str("note")));
  const nb::dict given = nb::cast<nb::dict>(eval("{'hijax': 'kept'}"));
  nb::dict kept = given;
  upstream::add_required_metadata(kept);
  EXPECT_EQ(show(kept["hijax"]), "'kept'");
}

TEST(FlaxVariable, CollectionsAreFlaxsRegistry) {
  const nb::object known = eval("list(variablelib.VariableTypeCache.items())");
  ASSERT_GE(nb::len(known), 5);
  for (nb::handle pair : nb::iter(known)) {
    EXPECT_TRUE(upstream::collection_of(pair[1]).equal(pair[0])) << show(pair);
    EXPECT_TRUE(upstream::type_for_collection(pair[0]).is(pair[1])) << show(pair);
  }
}

TEST(FlaxVariable, ANewCollectionRegistersAType) {
  const nb::object type = upstream::type_for_collection(nb::str("cpp_collection"));
  EXPECT_TRUE(type.is(eval("nnx.variable_type_from_name('cpp_collection')")));
  EXPECT_TRUE(py::is_subtype(type, eval("nnx.Variable")));
}

TEST(FlaxVariable, ANewTypeIsRegisteredUnderItsNameOnce) {
  const nb::object make = eval("lambda: type('CppOwn', (nnx.Variable,), {})");
  const nb::object first = make();
  const nb::object second = make();
  EXPECT_FALSE(upstream::collection_of(first).is_valid());
  EXPECT_EQ(show(upstream::collection_of_or_register(first, "here")), "'CppOwn'");
  EXPECT_TRUE(eval("nnx.variable_type_from_name")("CppOwn").is(first));
  EXPECT_EQ(show(upstream::collection_of_or_register(first, "here")), "'CppOwn'");
  const Error error = error_of([&] { upstream::collection_of_or_register(second, "here, a/b"); });
  EXPECT_TRUE(error.is_a(PyExc_ValueError));
  EXPECT_THAT(error.text, AllOf(HasSubstr("here, a/b"), HasSubstr("CppOwn"),
                                HasSubstr("register_variable_name")));
}

TEST(FlaxVariable, NewVariablesRunNoHooks) {
  nb::dict metadata = nb::cast<nb::dict>(eval("{'on_create_value': lambda v, x: x + 1}"));
  upstream::add_required_metadata(metadata);
  const nb::object value = eval("jnp.ones(2)");
  const nb::object variable = upstream::new_variable(eval("nnx.Param"), value, metadata);
  EXPECT_TRUE(upstream::raw_value(variable).is(value));
  EXPECT_TRUE(upstream::metadata(variable).equal(metadata));
}

TEST(FlaxVariable, RngStateIsKnownByType) {
  EXPECT_TRUE(upstream::is_rng_state(eval("nnx.Rngs(0).default.key")));
  EXPECT_TRUE(upstream::is_rng_state(eval("nnx.Rngs(0).default.count")));
  EXPECT_FALSE(upstream::is_rng_state(eval("nnx.Param(1)")));
}

// --- Linen

TEST(FlaxLinen, TheContextIsThatOfTheRunningModule) {
  EXPECT_TRUE(upstream::innermost_linen_module().is_none());
  EXPECT_FALSE(upstream::enclosing_mutable().is_valid());
  std::vector<std::string> seen;
  const nb::object look = nb::cpp_function([&] {
    const nb::object module = upstream::innermost_linen_module();
    seen.push_back(py::type_name(module.type()) + " " +
                   (upstream::is_initializing(module) ? "init" : "apply") + " " +
                   show(upstream::enclosing_mutable()));
  });
  run(R"(
    def call(look):
      class Inner(linen.Module):
        def __call__(self):
          look()
      class Outer(linen.Module):
        @linen.compact
        def __call__(self):
          look()
          Inner()()
          look()
      Outer().init({})
      Outer().apply({}, mutable=['cache'])
    result = call
  )")(look);
  EXPECT_THAT(seen,
              ElementsAre("Outer init DenyList(deny='intermediates')",
                          "Inner init DenyList(deny='intermediates')",
                          "Outer init DenyList(deny='intermediates')", "Outer apply ['cache']",
                          "Inner apply ['cache']", "Outer apply ['cache']"));
  EXPECT_TRUE(upstream::innermost_linen_module().is_none());
}

TEST(FlaxLinen, TellsModulesAndBoxesApart) {
  EXPECT_TRUE(upstream::is_linen_module(eval("linen.Dense(2)")));
  EXPECT_FALSE(upstream::is_linen_module(eval("linen.Dense")));
  EXPECT_FALSE(upstream::is_linen_module(eval("nnx.Rngs(0)")));
  EXPECT_TRUE(upstream::is_axis_metadata(eval("linen.Partitioned(1, ('x',))")));
  EXPECT_FALSE(upstream::is_axis_metadata(eval("jnp.ones(1)")));
  EXPECT_EQ(show(upstream::unfreeze(eval("FrozenDict({'a': {'b': 1}})"))), "{'a': {'b': 1}}");
}

TEST(FlaxFacade, IsLoadedOnceAndComplete) {
  EXPECT_EQ(&upstream::facade(), &upstream::facade());
  const upstream::Facade& table = upstream::facade();
  EXPECT_TRUE(table.variable.is(eval("nnx.Variable")));
  EXPECT_TRUE(table.linen_module.is(eval("linen.Module")));
  EXPECT_TRUE(table.jax_array.is(eval("jax.Array")));
  EXPECT_TRUE(py::is_subtype(table.not_initialized_error, table.param_not_found_error));
}

}  // namespace

}  // namespace nnx_wrappers::testing
