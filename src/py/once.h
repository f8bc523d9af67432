// What is made once for the process, by the first who asks, and lives as long as it.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

namespace nnx_wrappers::py {

// A function-local static holds a lock while it is made. Making Python objects may run
// Python code, which may hand the GIL to a thread that waits for that lock: both would
// wait for ever. Here two threads may both make one; the loser's is dropped, and all get
// the winner's. To be declared `static constinit`.
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
