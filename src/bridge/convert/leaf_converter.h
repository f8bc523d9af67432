// Linen leaves of one collection -> Variables of its type.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <string>

namespace nnx_wrappers::bridge {

// The name of the call and the path, for the text of an error.
using Where = std::function<std::string()>;

// Finds the type of a collection once and makes its Variables. What it learns holds
// for one call of the API: registrations and configurations may change between two.
class VariableMaker {
 public:
  // Throws TypeError if `collection` is no str, ValueError if it is registered for
  // something that is no Variable type.
  VariableMaker(nanobind::handle collection, const Where& where);

  // to_nnx_var for one leaf, raw or boxed. The value never changes on the way.
  nanobind::object make(nanobind::handle leaf, const Where& where);

 private:
  nanobind::object raw(nanobind::handle value);
  nanobind::object from_nnx_meta(nanobind::handle box, const Where& where) const;
  nanobind::object from_box(nanobind::handle box, const Where& where) const;

  nanobind::object collection_;
  nanobind::object type_;
  nanobind::dict metadata_;  // of a raw leaf; made with the first one
  nanobind::object trace_state_;
  bool is_simple_ = false;  // a raw leaf needs nothing but value and metadata
};

}  // namespace nnx_wrappers::bridge
