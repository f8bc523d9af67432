// Counts and times the calls of the wrappers, for nnx_wrappers/usage.h.
#pragma once

#include <nanobind/nanobind.h>

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace nnx_wrappers::bridge {

// The counts of one wrapped class.
struct UsageRow {
  size_t inits = 0;
  size_t calls = 0;
  size_t plans_built = 0;
  size_t plan_hits = 0;
  std::map<std::string, size_t> rebuilt;      // the part of plans_built by what had changed
  std::map<std::string, size_t> not_planned;  // by reason
  std::chrono::steady_clock::duration time{};

  void add(const UsageRow& other);
};

// The time of one call without that of the calls inside it.
class CallClock {
 public:
  void start();
  void stop();
  [[nodiscard]] bool is_running() const { return running_; }
  [[nodiscard]] std::chrono::steady_clock::duration time() const { return time_; }

 private:
  bool running_ = false;
  std::chrono::steady_clock::time_point since_;
  std::chrono::steady_clock::duration time_{};
};

// One call of a wrapper, on the stack while it runs. Its destructor adds the counts to the table,
// whether the call failed or not. Meanwhile the clock of the enclosing call is stopped, so that no
// time is counted twice. Does nothing while recording is off. Times are approximate if greenlets
// switch between calls of one thread.
class UsageOfCall {
 public:
  // `wrapped` is the NNX class, or the Linen module.
  UsageOfCall(const char* wrapper, nanobind::handle wrapped);
  ~UsageOfCall();
  UsageOfCall(const UsageOfCall&) = delete;
  UsageOfCall& operator=(const UsageOfCall&) = delete;

  void initializes() { counts_.inits = 1, counts_.calls = 0; }
  // `changed` says what had changed since the last plan was made; empty for the first plan.
  void plan_built(const std::string& changed);
  void plan_hit() { counts_.plan_hits = 1; }
  void not_planned(const std::string& reason);
  // The variables of this call cannot use the plan that there is.
  void plan_rejected(const std::string& reason);

  // Stops the clock while it lives, since the wrapped module runs.
  class ClockPause {
   public:
    explicit ClockPause(UsageOfCall& call) : clock_(call.clock_.get()) {
      if (clock_ != nullptr) clock_->stop();
    }
    ~ClockPause() {
      if (clock_ != nullptr) clock_->start();
    }
    ClockPause(const ClockPause&) = delete;
    ClockPause& operator=(const ClockPause&) = delete;

   private:
    CallClock* clock_;
  };

 private:
  // Null while recording is off. On the heap, since greenlets move the stack frames of calls that
  // they interrupt.
  std::shared_ptr<CallClock> clock_;
  std::shared_ptr<CallClock> outer_;
  bool outer_was_running_ = false;
  std::pair<std::string, std::string> key_;
  UsageRow counts_;
};

}  // namespace nnx_wrappers::bridge
