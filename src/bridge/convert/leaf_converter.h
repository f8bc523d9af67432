// Converts leaves of a Linen collection to Variables.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <string>

namespace nnx_wrappers::bridge {

// Returns the call and the path that an error message begins with.
using Where = std::function<std::string()>;

// Converts leaves of one collection to Variables of its type, which it looks up once. For one call
// of the API only, since registrations and Flax's configuration may change between two.
class LeafConverter {
 public:
  // Throws TypeError if `collection` is no str, and ValueError if its name is registered for
  // something that is no Variable type.
  LeafConverter(nanobind::handle collection, const Where& where);

  // As to_nnx_var, for a raw leaf or a box. The value is not changed.
  nanobind::object convert(nanobind::handle leaf, const Where& where);

 private:
  nanobind::object from_raw(nanobind::handle value);
  nanobind::object from_nnx_meta(nanobind::handle box, const Where& where) const;
  nanobind::object from_box(nanobind::handle box, const Where& where) const;

  nanobind::object collection_;
  nanobind::object type_;
  // For raw leaves, made with the first one.
  nanobind::dict metadata_;
  nanobind::object trace_state_;
  bool is_simple_ = false;  // the Variable is made of its value and its metadata alone
};

}  // namespace nnx_wrappers::bridge
