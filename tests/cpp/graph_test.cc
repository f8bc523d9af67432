// The room src/graph: paths, the walk, trees of variables, snapshots, loading.
#include <array>
#include <memory>
#include <stdexcept>

#include "graph/load.h"
#include "graph/path.h"
#include "graph/snapshot.h"
#include "graph/state_tree.h"
#include "graph/walk.h"
#include "nnx_wrappers/errors.h"
#include "support.h"
#include "upstream/variable.h"

namespace nnx_wrappers::testing {

namespace {

using graph::Path;
using graph::StateTree;
using upstream::NodeKind;

Path path_of(const char* tuple) {
  Path path;
  for (nb::handle key : nb::iter(eval(tuple))) path.push_back(nb::borrow(key));
  return path;
}

// Modules of every shape that a walk can meet.
constexpr auto kModels = std::to_array<const char*>({
    "nnx.Linear(2, 3, rngs=nnx.Rngs(0))",
    "dropout()",
    "nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0))",
    "nnx.List([nnx.Param(float(i)) for i in range(12)])",
    "{'b': [nnx.Param(1.0), (jnp.ones(1), nnx.Param(2.0))], 'a': nnx.BatchStat(3.0)}",
    "nnx.Rngs(0, dropout=1)",
    "jnp.ones(2)",
    "nnx.Param(1.0)",
    "shared()",
    "cyclic()",
    "containers()",
});

nb::object model(const char* source) {
  static constexpr const char* kClasses = R"(
    class Model(nnx.Module): pass
    def dropout():
      linear = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      return nnx.Sequential(linear, nnx.relu, nnx.Dropout(0.5, rngs=nnx.Rngs(1)))
    def shared():
      model = Model()
      model.b = Model()
      model.b.w = nnx.Param(jnp.ones(1))
      model.a = nnx.List([model.b, model.b])
      model.c = model.b.w
      model.ref = jax.new_ref(jnp.ones(1))
      model.same_ref = model.ref
      return model
    def cyclic():
      model = Model()
      model.child = Model()
      model.child.parent = model
      model.child.w = nnx.Param(jnp.ones(1))
      model.z = nnx.data([model, {'again': model.child}])
      return model
    def containers():
      model = Model()
      model.mapping = nnx.data({'z': (nnx.Param(1.0), jnp.ones(2)), 'a': [nnx.Param(2.0), None]})
      model.frozen = nnx.data(FrozenDict({'y': jnp.ones(1), 'x': {'w': jnp.zeros(1)}}))
      model.point = nnx.data(collections.namedtuple('Point', 'y x')(jnp.ones(1), jnp.zeros(1)))
      model.number = nnx.data(3)
      model.size = 4
      return model
    result = lambda source: eval(source, globals())
  )";
  return run(kClasses)(source);
}

// --- paths

TEST(GraphPath, AreShownWithSlashes) {
  EXPECT_EQ(graph::to_string(path_of("('layers', 0, 'scale')")), "layers/0/scale");
  EXPECT_EQ(graph::to_string({}), "(root)");
  EXPECT_EQ(show(graph::to_tuple(path_of("('a', 1)"))), "('a', 1)");
  EXPECT_EQ(graph::to_lines({path_of("('a',)"), path_of("('b', 'c')")}), "\n  - a\n  - b/c");
}

TEST(GraphPath, InsertNestedMakesTheLevelsThatAreMissing) {
  nb::dict root;
  EXPECT_TRUE(graph::insert_nested(root, path_of("('a', 'b', 'c')"), nb::int_(1)));
  EXPECT_TRUE(graph::insert_nested(root, path_of("('a', 'b', 'd')"), nb::int_(2)));
  EXPECT_TRUE(graph::insert_nested(root, path_of("('e',)"), nb::int_(3)));
  EXPECT_EQ(show(root), "{'a': {'b': {'c': 1, 'd': 2}}, 'e': 3}");
}

TEST(GraphPath, InsertNestedChangesNothingWhereItFails) {
  nb::dict root = nb::cast<nb::dict>(eval("{'a': {'b': 1}}"));
  for (const char* path : {"('a', 'b')", "('a', 'b', 'c')", "('a', 'b', 'c', 'd')", "('a',)"}) {
    EXPECT_FALSE(graph::insert_nested(root, path_of(path), nb::int_(2))) << path;
    EXPECT_EQ(show(root), "{'a': {'b': 1}}") << path;
  }
  Path unhashable = path_of("('x', 'y')");
  unhashable.push_back(nb::list());
  EXPECT_TRUE(
      error_of([&] { graph::insert_nested(root, unhashable, nb::int_(2)); }).is_a(PyExc_TypeError));
  EXPECT_EQ(show(root), "{'a': {'b': 1}}");
}

// --- the walk

class GraphWalk : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(, GraphWalk, ::testing::ValuesIn(kModels),
                         [](const auto& info) { return "Model" + std::to_string(info.index); });

TEST_P(GraphWalk, LeavesAreFlaxsFlatPathsInItsOrder) {
  const nb::object root = model(GetParam());
  nb::list paths;
  nb::list leaves;
  graph::WalkEvents events;
  events.on_leaf = [&](const Path& path, nb::handle leaf, NodeKind) {
    paths.append(graph::to_tuple(path));
    leaves.append(leaf);
  };
  graph::walk(root, events);
  const nb::object flat = eval("lambda root: graphlib.flatten(root, graph=True)[1]")(root);
  EXPECT_EQ(show(paths), show(eval("list")(flat.attr("paths"))));
  const nb::list expected(eval("list")(flat.attr("leaves")));
  ASSERT_EQ(leaves.size(), expected.size());
  for (size_t i = 0; i < leaves.size(); ++i) EXPECT_TRUE(leaves[i].is(expected[i])) << i;
}

TEST_P(GraphWalk, NodesAreFlaxsNodesOnce) {
  const nb::object root = model(GetParam());
  nb::list visited;
  graph::WalkEvents events;
  events.on_node = [&](const Path& path, nb::handle node, NodeKind kind) {
    if (kind == NodeKind::kPytree) visited.append(nb::make_tuple(graph::to_tuple(path), node));
    return true;
  };
  graph::walk(root, events);
  const nb::object oracle =
      eval("lambda root: [(p, n) for p, n in nnx.iter_graph(root) if isinstance(n, nnx.Pytree)]");
  // iter_graph goes depth first from below: the same nodes by the same paths.
  const nb::object by_path = eval("lambda pairs: sorted(((p, id(n)) for p, n in pairs), key=str)");
  EXPECT_EQ(show(by_path(visited)), show(by_path(oracle(root))));
  const auto pytrees = graph::pytrees_of(root);
  ASSERT_EQ(pytrees.size(), visited.size());
  for (size_t i = 0; i < pytrees.size(); ++i) EXPECT_TRUE(pytrees[i].is(visited[i][1]));
}

TEST(GraphWalkRules, ANodeCanBeLeftOut) {
  const nb::object root = model("containers()");
  std::vector<std::string> paths;
  graph::WalkEvents events;
  events.on_leaf = [&](const Path& path, nb::handle, NodeKind) {
    paths.push_back(graph::to_string(path));
  };
  events.on_node = [](const Path& path, nb::handle, NodeKind) {
    return path.empty() || graph::to_string(path) != "mapping";
  };
  graph::walk(root, events);
  EXPECT_THAT(paths, ElementsAre("frozen/x/w", "frozen/y", "number", "point/x", "point/y"));
}

TEST(GraphWalkRules, TheGraphMayChangeMeanwhile) {
  const nb::object root = model("{'a': [nnx.Param(1.0), nnx.Param(2.0)], 'b': nnx.Param(3.0)}");
  int seen = 0;
  graph::WalkEvents events;
  events.on_leaf = [&](const Path&, nb::handle, NodeKind) {
    ++seen;
    eval("lambda root: (root['a'].clear(), root.clear()) if root else None")(root);
  };
  graph::walk(root, events);
  EXPECT_EQ(seen, 3);
}

TEST(GraphWalkRules, TooDeepIsARecursionError) {
  const nb::object deep = run(R"(
    result = []
    for _ in range(200_000):
      result = [result]
  )");
  EXPECT_TRUE(error_of([&] { graph::walk(deep, {}); }).is_a(PyExc_RecursionError));
}

// --- trees of variables

StateTree tree_of(const char* variables) {
  StateTree tree;
  for (nb::handle item : nb::iter(eval(variables).attr("items")())) {
    tree.add_collection(item[nb::int_(0)], item[nb::int_(1)]);
  }
  return tree;
}

TEST(GraphStateTree, KeepsEachCollectionApart) {
  const StateTree tree = tree_of(
      "{'params': FrozenDict({'a': {'w': 1, 'b': 2}}), 'batch_stats': {'a': {'m': 3}, 'n': 4}}");
  EXPECT_EQ(show(tree.to_dict(nb::str("params"))), "{'a': {'w': 1, 'b': 2}}");
  EXPECT_EQ(show(tree.to_dict(nb::str("batch_stats"))), "{'a': {'m': 3}, 'n': 4}");
  EXPECT_EQ(show(tree.to_dict(nb::handle())), "{'a': {'w': 1, 'b': 2, 'm': 3}, 'n': 4}");
  EXPECT_EQ(show(tree.to_dict(nb::str("cache"))), "{}");
  EXPECT_EQ(show(nb::cast(tree.collections())), "['params', 'batch_stats']");
  ASSERT_NE(tree.child(nb::str("a")), nullptr);
  EXPECT_EQ(tree.child(nb::str("z")), nullptr);
  EXPECT_TRUE(tree.child(nb::str("a"))->has_children());
  EXPECT_THAT(tree.child(nb::str("a"))->leaves(), IsEmpty());
  EXPECT_THAT(tree.child(nb::str("n"))->leaves(), SizeIs(1));
}

TEST(GraphStateTree, BoxesAreLeaves) {
  const StateTree tree = tree_of("{'params': {'w': meta.Partitioned({'not': 'a level'}, ('x',))}}");
  EXPECT_FALSE(tree.child(nb::str("w"))->has_children());
}

std::vector<std::string> unused_paths(const StateTree& tree) {
  std::vector<std::string> paths;
  for (const auto& found : tree.unused()) paths.push_back(graph::to_string(found.path));
  return paths;
}

TEST(GraphStateTree, TellsWhatNobodyUsed) {
  StateTree tree = tree_of("{'params': {'a': {'w': 1, 'b': 2}, 'c': 3}}");
  EXPECT_THAT(unused_paths(tree), ElementsAre("a/w", "a/b", "c"));
  tree.child(nb::str("c"))->mark_used();
  EXPECT_THAT(unused_paths(tree), ElementsAre("a/w", "a/b"));
  tree.child(nb::str("a"))->mark_all_used();
  EXPECT_THAT(unused_paths(tree), IsEmpty());
}

TEST(GraphStateTree, FindsALeafAboveAnother) {
  EXPECT_EQ(
      tree_of("{'params': {'a': {'b': 1}}, 'cache': {'a': {'c': 1}, 'd': 2}}").first_conflict(),
      nullptr);
  EXPECT_EQ(tree_of("{'params': {'a': 1}, 'cache': {'a': 1}}").first_conflict(), nullptr);
  const auto conflict =
      tree_of("{'params': {'m': {'a': 1}}, 'cache': {'m': {'a': {'b': {'c': 2}}}}}")
          .first_conflict();
  ASSERT_NE(conflict, nullptr);
  EXPECT_EQ(graph::to_string(conflict->path), "m/a");
  EXPECT_EQ(graph::to_string(conflict->below), "m/a/b/c");
  EXPECT_EQ(show(conflict->leaf_collection), "'params'");
  EXPECT_EQ(show(conflict->below_collection), "'cache'");
}

// An empty level below a leaf holds nothing that could be lost.
TEST(GraphStateTree, AnEmptyLevelIsNoConflict) {
  EXPECT_EQ(tree_of("{'params': {'a': 1}, 'cache': {'a': {'b': {}}}}").first_conflict(), nullptr);
}

TEST(GraphStateTree, TooDeepIsARecursionError) {
  const nb::object deep = run(R"(
    result = {}
    for _ in range(200_000):
      result = {'a': result}
  )");
  StateTree tree;
  EXPECT_TRUE(
      error_of([&] { tree.add_collection(nb::str("params"), deep); }).is_a(PyExc_RecursionError));
}

}  // namespace

}  // namespace nnx_wrappers::testing
