// Watches what a thread's Python functions call of C. On Python 3.11 by a profile function that is
// in place only while a watched function runs, and passes every event on to the one that was
// there; from 3.12 on by events of sys.monitoring for the watched code objects alone, under a tool
// id of its own.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <vector>

namespace nnx_wrappers::py {

namespace nb = nanobind;

class CCallWatch {
 public:
  // `owner` is the object that a method of C is bound to, or an invalid handle.
  using Callback = void (*)(nb::handle callable, nb::handle owner);

  // One at a time in a thread.
  explicit CCallWatch(Callback callback);
  ~CCallWatch();
  CCallWatch(const CCallWatch&) = delete;
  CCallWatch& operator=(const CCallWatch&) = delete;

  // The calls of this code, from now on.
  void watch(nb::handle code);

  // Whether the function that runs now is one that is watched.
  void watched_runs(bool it_is);

  // Why not every call was seen, or nothing.
  const std::string& incomplete() const { return incomplete_; }

 private:
  friend struct CCallEvents;

  Callback callback_;
  std::string incomplete_;
#if PY_VERSION_HEX < 0x030c0000
  Py_tracefunc others_ = nullptr;  // the profile function that was there, and its argument
  nb::object others_argument_;
  bool is_ours_ = false;
#else
  nb::object monitoring_;
  nb::object tool_;  // its id; invalid while there is none
  nb::object call_event_;
  std::vector<nb::object> codes_;
#endif
};

}  // namespace nnx_wrappers::py
