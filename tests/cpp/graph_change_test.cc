// The room src/graph: what changes a module graph, and what takes changes back.
#include <stdexcept>

#include "graph/load.h"
#include "graph/snapshot.h"
#include "graph/state_tree.h"
#include "support.h"
#include "upstream/variable.h"

namespace nnx_wrappers::testing {

namespace {

using graph::Path;
using graph::StateTree;
using upstream::NodeKind;

// --- snapshots

// A module with everything that a snapshot saves, and a function that spoils it all.
nb::object spoilable() {
  return run(R"(
    class Model(nnx.Module): pass
    def make():
      model = Model()
      model.w = nnx.Param(jnp.ones(2), note='mine')
      model.ref = nnx.Param(jnp.ones(2), ref=True)
      model.hijax = nnx.Param(jnp.ones(2), hijax=True)
      model.tree = nnx.BatchStat({'a': jnp.ones(1)})
      model.plain = [1, 2]
      model.items = nnx.List([nnx.Param(1.0)])
      model.box = nnx.data({'b': [nnx.Param(2.0)], 'a': nnx.Param(3.0)})
      model.child = Model()
      model.child.parent = model
      model.child.rngs = nnx.Rngs(0)
      return model
    def spoil(model):
      model.w.set_value(jnp.zeros(2))
      model.w.set_metadata(note='other', extra=1)
      model.ref[...] = jnp.zeros(2)
      model.hijax.set_value(jnp.zeros(2))
      model.tree.set_value({'b': jnp.zeros(3)})
      model.items.append(nnx.Param(9.0))
      model.box['b'].append(nnx.Param(9.0))
      model.box['z'] = model.box.pop('a')
      model.child.rngs.default()
      model.child.new = 1
      del model.plain
      object.__getattribute__(model, '_pytree__state')._initializing = True
    def describe(model):
      state = nnx.state(model)
      rows = [(p, type(v).__name__, sorted(v.get_metadata().items(), key=str), str(v.get_value()))
              if isinstance(v, nnx.Variable) else (p, v) for p, v in nnx.to_flat_state(state)]
      flags = model._pytree__state.initializing
      return repr((rows, sorted(vars(model)), sorted(vars(model.child)), list(model.box), flags))
    result = make, spoil, describe
  )");
}

TEST(GraphSnapshot, RestoresAWholeGraph) {
  const nb::object functions = spoilable();
  const nb::object model = functions[0]();
  const nb::object before = functions[2](model);
  graph::Snapshot snapshot;
  snapshot.add_graph(model);
  functions[1](model);
  ASSERT_NE(show(functions[2](model)), show(before));
  snapshot.restore();
  EXPECT_EQ(nb::cast<std::string>(functions[2](model)), nb::cast<std::string>(before));
}

TEST(GraphSnapshot, KeepsIdentities) {
  const nb::object functions = spoilable();
  const nb::object model = functions[0]();
  const nb::object parts =
      eval("lambda m: [m.w, m.box, m.box['b'], m.items, m.child, m.w.get_raw_value()]");
  const nb::object before = parts(model);
  graph::Snapshot snapshot;
  snapshot.add_graph(model);
  functions[1](model);
  snapshot.restore();
  const nb::object after = parts(model);
  for (size_t i = 0; i < nb::len(before); ++i) EXPECT_TRUE(after[i].is(before[i])) << i;
}

TEST(GraphSnapshot, CanBeRestoredMoreThanOnce) {
  const nb::object functions = spoilable();
  const nb::object model = functions[0]();
  const nb::object before = functions[2](model);
  graph::Snapshot snapshot;
  snapshot.add_graph(model);
  for (int i = 0; i < 3; ++i) {
    functions[1](model);
    snapshot.restore();
    EXPECT_EQ(show(functions[2](model)), show(before));
  }
}

TEST(GraphSnapshot, AttributesAloneLeaveValuesAlone) {
  const nb::object model = spoilable()[0]();
  graph::Snapshot snapshot;
  snapshot.add_attributes(model);
  eval("lambda m: (m.w.set_value(jnp.zeros(2)), setattr(m, 'new', 1))")(model);
  snapshot.restore();
  EXPECT_FALSE(nb::hasattr(model, "new"));
  EXPECT_TRUE(same_bits(upstream::stored_value(model.attr("w")), eval("jnp.zeros(2)")));
}

TEST(GraphSnapshot, AllOrNothingPassesResultsAndErrorsOn) {
  const nb::object model = spoilable()[0]();
  graph::Snapshot snapshot;
  snapshot.add_graph(model);
  EXPECT_EQ(graph::all_or_nothing(snapshot, [] { return 3; }), 3);
  EXPECT_THROW(graph::all_or_nothing(snapshot,
                                     [&] {
                                       nb::setattr(model, "new", nb::int_(1));
                                       throw std::runtime_error("from the body");
                                     }),
               std::runtime_error);
  EXPECT_FALSE(nb::hasattr(model, "new"));
  const Error error =
      error_of([&] { graph::all_or_nothing(snapshot, [&] { eval("{}['missing']"); }); });
  EXPECT_TRUE(error.is_a(PyExc_KeyError));
}

// --- loading

StateTree tree_of(nb::handle variables) {
  StateTree tree;
  for (nb::handle item : nb::iter(variables.attr("items")())) {
    tree.add_collection(item[nb::int_(0)], item[nb::int_(1)]);
  }
  return tree;
}

// Loads the first leaf that is given for a path.
nb::object first_leaf(const Path&, nb::handle, NodeKind, const StateTree& given) {
  return given.leaves().empty() ? nb::object() : given.leaves().front().value;
}

std::vector<std::string> load(nb::handle root, const char* variables) {
  StateTree tree = tree_of(eval(variables));
  graph::load(root, tree, first_leaf);
  std::vector<std::string> unused;
  for (const auto& found : tree.unused()) unused.push_back(graph::to_string(found.path));
  return unused;
}

TEST(GraphLoad, UpdatesEveryKindOfLeafInPlace) {
  const nb::object model = run(R"(
    class Model(nnx.Module):
      def __init__(self):
        self.w = nnx.Param(jnp.ones(1))
        self.ref = jax.new_ref(jnp.ones(1))
        self.array = jnp.ones(1)
        self.items = nnx.List([nnx.Param(jnp.ones(1))])
        self.box = nnx.data({'b': [jnp.ones(1)]})
    result = Model()
  )");
  const nb::object parts = eval("lambda m: [m.w, m.ref, m.items, m.items[0], m.box, m.box['b']]");
  const nb::object before = parts(model);
  EXPECT_THAT(load(model,
                   "{'params': {'w': jnp.full(1, 2.0), 'items': {0: jnp.full(1, 3.0)}},"
                   " 'state': {'ref': jnp.full(1, 4.0), 'array': jnp.full(1, 5.0),"
                   "           'box': {'b': {0: jnp.full(1, 6.0)}}}}"),
              IsEmpty());
  EXPECT_EQ(show(eval("lambda m: [float(x[0]) for x in (m.w, m.items[0], m.ref, m.array, "
                      "m.box['b'][0])]")(model)),
            "[2.0, 3.0, 4.0, 5.0, 6.0]");
  const nb::object after = parts(model);
  for (size_t i = 0; i < nb::len(before); ++i) EXPECT_TRUE(after[i].is(before[i])) << i;
}

TEST(GraphLoad, RebuildsWhatCannotChangeInPlace) {
  const nb::object model = run(R"(
    Point = collections.namedtuple('Point', 'y x note')
    class Model(nnx.Module):
      def __init__(self):
        self.pair = nnx.data((jnp.ones(1), 'static', [nnx.Param(jnp.ones(1))]))
        self.point = nnx.data(Point(jnp.ones(1), jnp.ones(1), 'kept'))
        self.nested = nnx.data({'t': ((jnp.ones(1),),)})
        self.frozen = nnx.data(FrozenDict({'a': jnp.ones(1), 'b': {'c': jnp.ones(1)}}))
        self.same = nnx.data((jnp.ones(1),))
    result = Model()
  )");
  const nb::object variable = model.attr("pair")[nb::int_(2)][nb::int_(0)];
  const nb::object untouched = model.attr("same");
  EXPECT_THAT(load(model,
                   "{'params': {'pair': {0: jnp.full(1, 2.0), 2: {0: jnp.full(1, 3.0)}},"
                   " 'point': {'x': jnp.full(1, 4.0)}, 'nested': {'t': {0: {0: jnp.full(1, 5.0)}}},"
                   " 'frozen': {'b': {'c': jnp.full(1, 6.0)}}}}"),
              IsEmpty());
  EXPECT_EQ(show(eval("lambda m: (float(m.pair[0][0]), m.pair[1], float(m.pair[2][0][0]))")(model)),
            "(2.0, 'static', 3.0)");
  EXPECT_TRUE(model.attr("pair")[nb::int_(2)][nb::int_(0)].is(variable));
  EXPECT_EQ(show(eval("lambda m: (float(m.point.y[0]), float(m.point.x[0]), m.point.note)")(model)),
            "(1.0, 4.0, 'kept')");
  EXPECT_EQ(show(eval("lambda m: (type(m.point).__name__, float(m.nested['t'][0][0][0]))")(model)),
            "('Point', 5.0)");
  EXPECT_EQ(show(eval("lambda m: (float(m.frozen['a'][0]), float(m.frozen['b']['c'][0]), "
                      "type(m.frozen).__name__)")(model)),
            "(1.0, 6.0, 'FrozenDict')");
  EXPECT_TRUE(model.attr("same").is(untouched));
}

TEST(GraphLoad, LeavesWhatIsNotGivenAndTellsWhatIsNotThere) {
  const nb::object model = eval("nnx.Linear(2, 3, rngs=nnx.Rngs(0))");
  const nb::object kernel = upstream::raw_value(model.attr("kernel"));
  EXPECT_THAT(load(model, "{'params': {'bias': jnp.ones(3), 'gone': {'w': 1}, 'kernel2': 2}}"),
              ElementsAre("gone/w", "kernel2"));
  EXPECT_TRUE(upstream::raw_value(model.attr("kernel")).is(kernel));
  EXPECT_TRUE(same_bits(upstream::stored_value(model.attr("bias")), eval("jnp.ones(3)")));
}

TEST(GraphLoad, SharedNodesAreLoadedByTheirFirstPath) {
  const nb::object model = run(R"(
    class Model(nnx.Module): pass
    model = Model()
    model.b = nnx.Param(jnp.ones(1))
    model.a = Model()
    model.a.w = model.b
    model.a.up = model
    result = model
  )");
  EXPECT_THAT(load(model, "{'params': {'a': {'w': jnp.full(1, 2.0)}, 'b': jnp.full(1, 3.0)}}"),
              ElementsAre("b"));
  EXPECT_EQ(show(eval("lambda m: float(m.b[0])")(model)), "2.0");
  // The oracle: nnx.update walks the same way and ignores the second path too.
  EXPECT_EQ(show(eval("lambda m: [p for p, _ in nnx.to_flat_state(nnx.state(m))]")(model)),
            "[('a', 'w')]");
}

TEST(GraphLoad, ChooseSeesWhatIsThereNow) {
  const nb::object model = eval("nnx.Linear(2, 3, rngs=nnx.Rngs(0))");
  std::vector<std::string> seen;
  StateTree tree = tree_of(eval("{'params': {'kernel': 1}, 'other': {'kernel': 2, 'bias': 3}}"));
  graph::load(model, tree,
              [&](const Path& path, nb::handle current, NodeKind kind, const StateTree& given) {
                seen.push_back(graph::to_string(path) + " " + show(nb::cast(given.collections())));
                EXPECT_TRUE(current.is(model.attr(nb::str(path.back()))));
                EXPECT_EQ(kind, NodeKind::kVariable);
                return nb::object();
              });
  EXPECT_THAT(seen, ElementsAre("bias ['other']", "kernel ['params', 'other']"));
  EXPECT_THAT(tree.unused(), IsEmpty());
}

TEST(GraphLoad, TheGraphMayHoldNoMoreThanTheInterpreterAllows) {
  const nb::object deep = run(R"(
    result = []
    for _ in range(200_000):
      result = [result]
  )");
  StateTree tree;
  EXPECT_TRUE(error_of([&] { graph::load(deep, tree, first_leaf); }).is_a(PyExc_RecursionError));
}

}  // namespace

}  // namespace nnx_wrappers::testing
