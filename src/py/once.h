// A value that is made at the first use and lives as long as the process.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

namespace nnx_wrappers::py {

// Use it in the place of a function-local static, declared `static constinit`. A function-local
// static holds a lock while its value is made. Making Python objects may run Python code, which may
// hand the GIL to a thread that waits for that lock, and then both wait for ever. With Once two
// threads may both make a value: all threads get the first, and the other one is destroyed.
template <typename T>
class Once {
 public:
  // `make()` returns a T.
  template <typename Make>
  T& get(Make&& make) {
    T* value = published_.load(std::memory_order_acquire);
    if (value == nullptr) {
      std::unique_ptr<T> mine(new T(std::forward<Make>(make)()));
      if (published_.compare_exchange_strong(value, mine.get(), std::memory_order_acq_rel)) {
        value = mine.release();
      }
    }
    return *value;
  }

 private:
  std::atomic<T*> published_{nullptr};
};

}  // namespace nnx_wrappers::py
