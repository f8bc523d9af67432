#include "py/parameter_watch.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"
#include "py/once.h"

namespace nnx_wrappers::py {

#if PY_VERSION_HEX < 0x030c0000

ParameterWatch::ParameterWatch(nb::handle /*function*/, size_t /*position*/) {}
bool ParameterWatch::is_watching() const { return false; }
bool ParameterWatch::is_unread() const { return false; }

#else

namespace {

thread_local ParameterWatch* watch_of_thread = nullptr;

constexpr size_t kMaxPosition = 15;  // half a byte, which is what an operation on two variables has

// What an operation of bytecode does with local variables.
enum class Access : char { kNone, kOne, kTwo };

// By the number of the operation.
const std::array<Access, 256>& accesses() {
  static constinit Once<const std::array<Access, 256> > known;
  return known.get([] {
    std::array<Access, 256> made{};
    const nb::module_ opcode = nb::module_::import_("opcode");
    for (const nb::object& number : elements(opcode.attr("haslocal"))) {
      const auto operation = nb::cast<size_t>(number);
      if (operation >= made.size()) continue;  // it is the compiler's own
      const std::string name = utf8(opcode.attr("opname")[number]);
      const size_t first = name.find("_FAST");
      const bool has_two = name.find("_FAST", first + 1) != std::string::npos;
      made.at(operation) = has_two ? Access::kTwo : Access::kOne;
    }
    return made;
  });
}

// The code of a function whose parameter is a local variable, and no cell; else invalid.
nb::object code_with_local(nb::handle function, size_t position) {
  if (PyFunction_Check(function.ptr()) == 0 || position > kMaxPosition) return {};
  nb::object code = get(function, names().code_dunder);
  const std::vector<nb::object> variables = elements(code.attr("co_varnames"));
  const bool is_parameter = position < nb::cast<size_t>(code.attr("co_argcount"));
  const auto flags = nb::cast<int>(code.attr("co_flags"));
  const bool runs_at_once = (flags & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR)) == 0;
  if (!is_parameter || !runs_at_once || contains(code.attr("co_cellvars"), variables[position]))
    return {};
  return code;
}

}  // namespace

struct InstructionEvents {
  // The arguments are code and offset.
  static PyObject* on_instruction(PyObject* /*unused*/, PyObject* const* args, Py_ssize_t count) {
    ParameterWatch* watch = watch_of_thread;
    if (watch != nullptr && count == 2 && watch->code_.is(args[0]))
      watch->offsets_.insert(PyLong_AsSize_t(args[1]));
    return Py_NewRef(Py_None);
  }
};

namespace {

PyMethodDef definition = {
    "on_instruction",
    reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(InstructionEvents::on_instruction)),
    METH_FASTCALL, nullptr};

}  // namespace

ParameterWatch::ParameterWatch(nb::handle function, size_t position)
    : position_(position), code_(code_with_local(function, position)) {
  if (!code_.is_valid() || watch_of_thread != nullptr) return;
  tool_.emplace("INSTRUCTION", definition);
  tool_->watch(code_);
  watch_of_thread = this;
}

ParameterWatch::~ParameterWatch() {
  if (tool_) watch_of_thread = nullptr;
}

bool ParameterWatch::is_watching() const { return tool_ && tool_->has_id(); }

bool ParameterWatch::is_unread() const {
  if (offsets_.empty()) return false;
  const nb::bytes units(nb::object(code_.attr("co_code")));  // of an operation and its argument
  const auto* bytes = reinterpret_cast<const unsigned char*>(units.c_str());
  return std::ranges::none_of(offsets_, [&](size_t offset) {
    if (offset + 1 >= units.size()) return true;
    const unsigned argument = bytes[offset + 1];
    switch (accesses().at(bytes[offset])) {
      case Access::kNone:
        return false;
      case Access::kOne:
        return argument == position_;
      case Access::kTwo:
        return (argument >> 4U) == position_ || (argument & 15U) == position_;
    }
    return true;
  });
}

#endif

}  // namespace nnx_wrappers::py
