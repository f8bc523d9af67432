// Nothing is kept that should not be: each entry point runs many times, and neither the
// counts of its arguments nor those of all objects may grow with it.
#include <algorithm>
#include <array>
#include <functional>
#include <ostream>
#include <tuple>

#include "bridge/compat/decoder_layers.h"
#include "bridge/compat/functional.h"
#include "bridge/convert/nnx_meta.h"
#include "bridge/to_nnx/python_methods.h"
#include "graph/load.h"
#include "graph/snapshot.h"
#include "graph/state_tree.h"
#include "graph/walk.h"
#include "nnx_wrappers/nnx_wrappers.h"
#include "py/containers.h"
#include "py/object.h"
#include "support.h"
#include "upstream/node.h"

namespace nnx_wrappers::testing {

namespace {

constexpr int kBatches = 4;

// What a batch keeps: caches grow less with every batch, or shrink in one of them; what a
// call keeps, every batch shows.
long typical(std::array<long, kBatches> growth) {
  std::ranges::sort(growth);
  return growth[1];
}

// Objects that the collector knows, and blocks of memory in use (strings and numbers too).
std::tuple<long, long> objects_alive() {
  const nb::object counts = eval(
      "lambda: (__import__('gc').collect(), len(__import__('gc').get_objects()), "
      "sys.getallocatedblocks())[1:]")();
  return {nb::cast<long>(counts[0]), nb::cast<long>(counts[1])};
}

enum class Runs { kOurs, kFlax };  // whose code takes most of the time

struct Entry {
  Runs runs;
  const char* name;
  const char* argument;  // made once; its reference count is watched
  void (*call)(nb::handle argument);
};

void PrintTo(const Entry& entry, std::ostream* out) { *out << entry.name; }

nb::tuple inputs() { return nb::make_tuple(eval("_x")); }

void swallow(const std::function<void()>& call) { EXPECT_TRUE(error_of(call).type.is_valid()); }

constexpr auto kEntries = std::to_array<Entry>({
    {Runs::kOurs, "DescribeAndTypes", "nnx.Param(1.0)",
     [](nb::handle a) {
       py::describe(a);
       py::type_name(a.type());
       py::get_optional(a, nb::str("missing"));
     }},
    {Runs::kOurs, "Containers", "{f'key {i}': object() for i in range(10)}",
     [](nb::handle a) {
       auto items = py::mapping_items(a);
       py::sort_by_key(items);
       const nb::dict copy = py::to_dict(a);
       py::restore_dict(copy, a);
     }},
    {Runs::kOurs, "ContainersThatDoNotCompare", "{'a': 1, 2: 3}",
     [](nb::handle a) {
       auto items = py::dict_items(a);
       py::sort_by_key_if_comparable(items);
       swallow([&] { py::sort_by_key(items); });
       swallow([&] { py::dict_get(a, nb::list()); });
     }},
    {Runs::kOurs, "Walk", "_model",
     [](nb::handle a) {
       graph::walk(a, {});
       graph::pytrees_of(a);
     }},
    {Runs::kOurs, "Snapshot", "_model",
     [](nb::handle a) {
       graph::Snapshot snapshot;
       snapshot.add_graph(a);
       snapshot.restore();
     }},
    {Runs::kOurs, "Load", "_tuples",
     [](nb::handle a) {
       graph::StateTree tree;
       tree.add_collection(nb::str("params"), eval("{'point': {'x': _x}, 'w': {'b': _x}}"));
       graph::load(a, tree,
                   [](const graph::Path&, nb::handle, upstream::NodeKind,
                      const graph::StateTree& given) { return given.leaves().front().value; });
       tree.unused();
       tree.to_dict(nb::handle());
     }},
    {Runs::kOurs, "Variables", "nnx.Param(1.0, note='mine')",
     [](nb::handle a) {
       is_vanilla_variable(a);
       to_nnx_var(nb::str("params"), to_linen_var(a));
     }},
    {Runs::kOurs, "VariablesRefused", "object()",
     [](nb::handle a) {
       swallow([&] { is_vanilla_variable(a); });
       swallow([&] { to_linen_var(a); });
       swallow([&] { to_nnx_var(a, a); });
       swallow([&] { get_col_name(a); });
       swallow([&] { linen_vars_to_nnx_attrs(a); });
       swallow([&] { nnx_attrs_to_linen_vars(a); });
       swallow([&] { lazy_init(a, nb::tuple(), nb::dict()); });
       swallow([&] { linen_rngs_dict(a); });
       swallow([&] { nnx_rngs_to_linen(a); });
       swallow([&] { ToNNX(a, nb::none()); });
       swallow([&] { ToLinen{a}; });
     }},
    {Runs::kOurs, "Collections", "{'params': {'a': {'w': _x}}, 'batch_stats': {'a': {'m': _x}}}",
     [](nb::handle a) { nnx_attrs_to_linen_vars(linen_vars_to_nnx_attrs(a)); }},
    {Runs::kOurs, "CollectionsInConflict", "{'params': {'a': _x}, 'cache': {'a': {'b': _x}}}",
     [](nb::handle a) { swallow([&] { linen_vars_to_nnx_attrs(a); }); }},
    {Runs::kFlax, "Rngs", "nnx.Rngs(0, dropout=1)", [](nb::handle a) { nnx_rngs_to_linen(a); }},
    {Runs::kFlax, "LazyInit", "_to_nnx", [](nb::handle a) { lazy_init(a, inputs(), nb::dict()); }},
    {Runs::kFlax, "LazyInitThatFails", "_failing",
     [](nb::handle a) { swallow([&] { lazy_init(a, inputs(), nb::dict()); }); }},
    {Runs::kFlax, "ToNNXCall", "_to_nnx",
     [](nb::handle a) {
       const ToNNX model = ToNNX::from(a);
       model.call(inputs());
       model.variables();
     }},
    {Runs::kFlax, "ToNNXCallThatFails", "_to_nnx",
     [](nb::handle a) {
       swallow([&] { ToNNX::from(a).call(nb::make_tuple("no array")); });
       swallow([&] { bridge::to_nnx::attribute(a, nb::str("nothing")); });
     }},
    {Runs::kFlax, "ToNNXMade", "linen.Dense(2)",
     [](nb::handle a) {
       ToNNX model(a, eval("nnx.Rngs(0)"));
       model.lazy_init(inputs());
       bridge::to_nnx::attribute(model.object(), nb::str("param"));
       bridge::to_nnx::release_rngs(model.object());
       bridge::decoder_layers(model.object());
     }},
    {Runs::kFlax, "ToLinenInitAndApply", "nnx.Linear",
     [](nb::handle a) {
       const ToLinen model(a, nb::make_tuple(2, 2));
       const nb::tuple made = model.init_with_output(eval("_key"), inputs());
       model.apply(made[1], inputs());
     }},
    {Runs::kFlax, "ToLinenApplyThatFails", "{'params': {'kernel': {'w': _x}}}",
     [](nb::handle a) {
       const ToLinen model(eval("nnx.Linear"), nb::make_tuple(2, 2));
       swallow([&] { model.apply(a, inputs()); });
     }},
    {Runs::kOurs, "NnxMeta", "nnx_wrappers.NNXMeta(nnx.Param, _x, {'out_sharding': ('a', 'b')})",
     [](nb::handle a) {
       const nb::object params = eval("{'partition_name': 'layers'}");
       bridge::nnx_meta_remove_axis(bridge::nnx_meta_add_axis(a, 0, params), 0, params);
       bridge::nnx_meta_to_variable(a);
       swallow([&] { bridge::nnx_meta_remove_axis(a, 0, params); });
     }},
    {Runs::kFlax, "Functional", "nnx.Linear",
     [](nb::handle a) {
       const nb::object pair = eval("nnx_wrappers.functional")(a)(2, 2);
       const nb::object state = bridge::functional_init(pair, eval("nnx.Rngs(0)"));
       bridge::functional_apply(pair, nb::make_tuple(state));
       bridge::with_partitioning(eval("nnx.initializers.ones_init()"), nb::make_tuple("x"),
                                 nb::none());
     }},
});

class References : public ::testing::TestWithParam<Entry> {
 protected:
  static void SetUpTestSuite() {
    prepare_names(R"(
      class _Model(nnx.Module): pass
      _x = jnp.ones((2, 2))
      _key = jax.random.key(0)
      _model = nnx.Sequential(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nnx.BatchNorm(2, rngs=nnx.Rngs(1)))
      _tuples = _Model()
      _tuples.point = nnx.data(collections.namedtuple('Point', 'y x')(_x, _x))
      _tuples.w = nnx.data({'b': _x, 'a': (_x,)})
      _to_nnx = nnx_wrappers.ToNNX(
        linen.Sequential([linen.Dense(2), linen.BatchNorm(use_running_average=False)]),
        rngs=nnx.Rngs(0)).lazy_init(_x)
      class _Failing(nnx.Module):
        def __init__(self):
          self.inner = nnx_wrappers.ToNNX(linen.Dense(2), rngs=nnx.Rngs(0))
        def __call__(self, x):
          self.inner(x)
          raise ZeroDivisionError
      _failing = _Failing()
    )");
  }
};

INSTANTIATE_TEST_SUITE_P(, References, ::testing::ValuesIn(kEntries),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(References, StayFlat) {
  const bool ours = GetParam().runs == Runs::kOurs;
  const int calls = ours ? 100 : 25;
  const long leak = calls * 3 / 4;  // one object kept by each call would be `calls` a batch
  const nb::object argument = eval(GetParam().argument);
  const auto call = [&](int times) {
    for (int i = 0; i < times; ++i) GetParam().call(argument);
  };
  call(calls);  // the caches of Flax, JAX and Python fill
  const nb::module_ gc = nb::module_::import_("gc");
  gc.attr("collect")();
  gc.attr("freeze")();  // what is there already need not be counted again and again
  const Py_ssize_t references = Py_REFCNT(argument.ptr());
  std::array<long, kBatches> objects_grown{};
  std::array<long, kBatches> blocks_grown{};
  auto [objects, blocks] = objects_alive();
  for (int batch = 0; batch < kBatches; ++batch) {
    call(calls);
    const auto [objects_now, blocks_now] = objects_alive();
    objects_grown[batch] = objects_now - objects;
    blocks_grown[batch] = blocks_now - blocks;
    std::tie(objects, blocks) = std::tie(objects_now, blocks_now);
  }
  gc.attr("unfreeze")();
  EXPECT_EQ(Py_REFCNT(argument.ptr()), references);
  EXPECT_LT(typical(objects_grown), leak) << ::testing::PrintToString(objects_grown);
  // Memory that Flax and JAX move to and fro (tables of weak references) hides ours.
  if (!ours) return;
  EXPECT_LT(typical(blocks_grown), leak) << ::testing::PrintToString(blocks_grown);
}

}  // namespace

}  // namespace nnx_wrappers::testing
