// Variables of a scope taken in one walk: all of what is there, or nothing.
#include "bridge/plan/variable_layout.h"

#include "graph/static_key.h"
#include "support.h"

namespace nnx_wrappers::testing {

namespace {

// Slots for params/dense/kernel, params/layers/0/scale, batch_stats/dense/mean, and one
// that no collection has.
struct BridgeLayout : ::testing::Test {
  std::vector<graph::Slot> slots;
  std::vector<nb::object> collections;

  BridgeLayout() {
    add("params", nb::make_tuple("dense", "kernel"));
    add("params", nb::make_tuple("layers", 0, "scale"));
    add("batch_stats", nb::make_tuple("dense", "mean"));
    add(nullptr, nb::make_tuple("raw"));
  }

  void add(const char* collection, const nb::tuple& keys) {
    graph::Path path;
    for (nb::handle key : keys) path.push_back(nb::borrow(key));
    slots.push_back({path, {}, {}, false});
    collections.push_back(collection == nullptr ? nb::object() : nb::object(nb::str(collection)));
  }

  // The values taken, "-" where there is none; "refused" if they were not just right.
  std::string take(const char* variables) const {
    const bridge::VariableLayout layout(slots, collections);
    const auto values = layout.take(eval(variables));
    if (!values) return "refused";
    std::string text;
    for (const nb::object& value : *values) text += value.is_valid() ? show(value) + " " : "- ";
    return text;
  }
};

TEST_F(BridgeLayout, EveryCollectionThatIsThereIsTakenWhole) {
  EXPECT_EQ(take("{'params': {'dense': {'kernel': 1}, 'layers': {0: {'scale': 2}}},"
                 " 'batch_stats': {'dense': {'mean': 3}}}"),
            "1 2 3 - ");
  EXPECT_EQ(take("{'params': {'layers': {0: {'scale': 2}}, 'dense': {'kernel': 1}}}"), "1 2 - - ");
  EXPECT_EQ(take("{}"), "- - - - ");
}

TEST_F(BridgeLayout, FrozenLevelsAreLevels) {
  EXPECT_EQ(take("__import__('flax').core.freeze({'batch_stats': {'dense': {'mean': 3}}})"),
            "- - 3 - ");
}

TEST_F(BridgeLayout, BoxesAreOpened) {
  EXPECT_EQ(take("{'batch_stats': {'dense': {'mean': meta.Partitioned(7, names=())}}}"),
            "- - 7 - ");
}

TEST_F(BridgeLayout, AnythingElseIsRefused) {
  // A path too few, one too many, an unknown collection.
  EXPECT_EQ(take("{'params': {'dense': {'kernel': 1}}}"), "refused");
  EXPECT_EQ(take("{'batch_stats': {'dense': {'mean': 3, 'var': 4}}}"), "refused");
  EXPECT_EQ(take("{'batch_stats': {'dense': {'mean': 3}}, 'cache': {'x': 1}}"), "refused");
  // A level where a leaf should be, and the other way round.
  EXPECT_EQ(take("{'batch_stats': {'dense': {'mean': {'deeper': 3}}}}"), "refused");
  EXPECT_EQ(take("{'batch_stats': {'dense': 3}}"), "refused");
  // Another key that prints alike; a mapping that is no level.
  EXPECT_EQ(take("{'params': {'dense': {'kernel': 1}, 'layers': {'0': {'scale': 2}}}}"), "refused");
  EXPECT_EQ(take("types.MappingProxyType({'batch_stats': {'dense': {'mean': 3}}})"), "refused");
}

TEST_F(BridgeLayout, KeepsNoReferenceToWhatItRefused) {
  const nb::object value = run("result = object()");
  const Py_ssize_t before = Py_REFCNT(value.ptr());
  const nb::object variables =
      eval("lambda v: {'batch_stats': {'dense': {'mean': v}}, 'cache': {'x': v}}")(value);
  EXPECT_FALSE(bridge::VariableLayout(slots, collections).take(variables).has_value());
  EXPECT_EQ(Py_REFCNT(value.ptr()), before + 2);  // the two that `variables` holds
}

TEST(FlaxStaticKey, IsRememberedOnlyWhileAFunctionClosesOverTheSame) {
  const nb::object made = run(R"(
    def make():
      scale = 1
      def function(): return scale
      def change():
        nonlocal scale
        scale = 2
      return function, change
    result = make()
  )");
  const nb::object before = graph::static_key(made[0]);
  EXPECT_TRUE(before.is_valid());
  EXPECT_TRUE(graph::static_key(made[0]).equal(before));
  made[1]();
  EXPECT_FALSE(graph::static_key(made[0]).equal(before));
  graph::forget_keys();
  EXPECT_FALSE(graph::static_key(made[0]).equal(before));
}

}  // namespace

}  // namespace nnx_wrappers::testing
