// A C++ program that uses Flax's two module systems through each other: a Linen
// model as an NNX module, and an NNX model as a Linen module. Each result is
// compared, bit for bit, with what the native model computes.
//
//   example [PYTHON]    PYTHON: the bin/python of the environment with nnx_wrappers
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstdio>
#include <exception>
#include <iostream>
#include <string>

#include "nnx_wrappers/interpreter.h"
#include "nnx_wrappers/nnx_wrappers.h"

namespace nb = nanobind;
namespace nw = nnx_wrappers;
using namespace nb::literals;

namespace {

// The Python modules that the example calls.
struct Modules {
  nb::module_ jax = nb::module_::import_("jax");
  nb::module_ numpy = nb::module_::import_("numpy");
  nb::module_ linen = nb::module_::import_("flax.linen");
  nb::module_ nnx = nb::module_::import_("flax.nnx");

  nb::object key(int seed) const { return jax.attr("random").attr("key")(seed); }

  template <typename... Size>
  nb::object input(Size... sizes) const {
    return jax.attr("random").attr("normal")(key(7), nb::make_tuple(sizes...));
  }
};

// Prints a row for each comparison and counts those that fail.
class Table {
 public:
  explicit Table(const Modules& m) : m_(m) {
    std::printf("%-48s %-12s %s\n", "compared with the native module", "shape", "bits");
  }

  void compare(const char* what, nb::handle ours, nb::handle native) {
    const nb::object shape = m_.numpy.attr("shape")(ours);
    row(what, nb::cast<std::string>(nb::str(shape)), same_bits(ours, native));
  }

  // Trees of arrays: the same structure, and the same bits in every leaf.
  void compare_trees(const char* what, nb::handle ours, nb::handle native) {
    const nb::object tree = m_.jax.attr("tree");
    const nb::list left(tree.attr("leaves")(ours));
    const nb::list right(tree.attr("leaves")(native));
    bool same = tree.attr("structure")(ours).equal(tree.attr("structure")(native));
    for (size_t i = 0; same && i < left.size(); ++i) same = same_bits(left[i], right[i]);
    row(what, std::to_string(left.size()) + " arrays", same);
  }

  int failures() const { return failures_; }

 private:
  bool same_bits(nb::handle ours, nb::handle native) const {
    const nb::object left = m_.numpy.attr("asarray")(ours);
    const nb::object right = m_.numpy.attr("asarray")(native);
    return left.attr("dtype").equal(right.attr("dtype")) &&
           left.attr("shape").equal(right.attr("shape")) &&
           left.attr("tobytes")().equal(right.attr("tobytes")());
  }

  void row(const char* what, const std::string& shape, bool same) {
    std::printf("%-48s %-12s %s\n", what, shape.c_str(), same ? "equal" : "DIFFERENT");
    if (!same) ++failures_;
  }

  const Modules& m_;
  int failures_ = 0;
};

// A Linen model with batch norm, used as an NNX module that owns its variables.
void linen_in_nnx(const Modules& m, Table& table) {
  nb::list layers;
  layers.append(m.linen.attr("Dense")(16));
  layers.append(m.linen.attr("BatchNorm")("use_running_average"_a = false));
  layers.append(m.linen.attr("relu"));
  layers.append(m.linen.attr("Dense")(4));
  const nb::object linen_model = m.linen.attr("Sequential")(layers);
  const nb::object x = m.input(32, 8);

  // Native: variables outside, updates handed back.
  const nb::dict keys = nw::nnx_rngs_to_linen(m.nnx.attr("Rngs")(0).attr("fork")());
  const nb::object variables = linen_model.attr("init")(keys, x);
  const nb::object native = linen_model.attr("apply")(variables, x, "mutable"_a = "batch_stats");

  // Bridged: variables inside, changed in place by the call.
  nw::ToNNX model(linen_model, m.nnx.attr("Rngs")(0));
  model.lazy_init(nb::make_tuple(x));
  table.compare_trees("ToNNX: variables from lazy_init", model.variables(), variables);
  table.compare("ToNNX: output", model(x), native[0]);
  table.compare_trees("ToNNX: batch_stats after the call", model.variables()["batch_stats"],
                      native[1]["batch_stats"]);

  // One attribute, as NNX and as Linen see it.
  const nb::object kernel = model.object().attr("layers_0")["kernel"];
  table.compare("to_linen_var: the first kernel", nw::to_linen_var(kernel),
                variables["params"]["layers_0"]["kernel"]);
}

// An NNX model with submodules, used as a Linen module.
void nnx_in_linen(const Modules& m, Table& table) {
  const nb::object nnx_class = m.nnx.attr("MultiHeadAttention");
  nb::dict kwargs;
  kwargs["num_heads"] = 2;
  kwargs["in_features"] = 8;
  kwargs["decode"] = false;
  const nb::object native = nnx_class(**kwargs, "rngs"_a = m.nnx.attr("Rngs")(0));
  const nb::object x = m.input(2, 5, 8);
  const nw::ToLinen model(nnx_class, nb::make_tuple(), kwargs);

  // The native model's weights, moved to Linen.
  const nb::object state = m.nnx.attr("state")(native, m.nnx.attr("Param"));
  const nb::dict variables = nw::nnx_attrs_to_linen_vars(state);
  table.compare("ToLinen: output on the native model's weights", model(variables, x), native(x));

  // Weights that Linen made, moved to the native model.
  const nb::object made = model.init(m.key(1), nb::make_tuple(x));
  m.nnx.attr("update")(native, nw::linen_vars_to_nnx_attrs(made));
  table.compare("ToLinen: output on the variables of init", model(made, x), native(x));
  const nb::object params = m.nnx.attr("state")(native, m.nnx.attr("Param"));
  table.compare_trees("ToLinen: variables, as the native model's state", made["params"],
                      m.nnx.attr("to_pure_dict")(params));
}

// Everything that holds Python objects lives and dies in here.
int run() {
  const Modules modules;
  Table table(modules);
  linen_in_nnx(modules, table);
  nnx_in_linen(modules, table);
  return table.failures();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const nw::Interpreter python({.executable = argc > 1 ? argv[1] : "", .arguments = {argv[0]}});
    const int failures = run();
    std::printf(failures == 0 ? "all equal\n" : "%d comparisons failed\n", failures);
    return failures == 0 ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << "example: " << error.what() << "\n";
    return 1;
  }
}
