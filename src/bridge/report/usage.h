// Counts and times the calls of the wrappers for include/nnx_wrappers/usage.h.
#pragma once

#include <nanobind/nanobind.h>

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace nnx_wrappers::bridge {

// What was counted for one wrapped class.
struct UsageRow {
  size_t inits = 0;
  size_t calls = 0;
  size_t plans_built = 0;
  size_t plan_hits = 0;
  std::map<std::string, size_t> rebuilt;  // of plans_built, by what had changed
  std::map<std::string, size_t> not_planned;
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

// One call of a wrapper: lives on the stack while it runs, and adds what it counted to
// the table when it ends, failed or not. Does nothing while recording is off. The
// clock of the call around it stands still meanwhile, so that no time counts twice.
// Where calls take turns in one thread (greenlets), times are approximate.
class UsageOfCall {
 public:
  // `wrapped`: the NNX class, or the Linen module. Borrowed for the constructor only.
  UsageOfCall(const char* wrapper, nanobind::handle wrapped);
  ~UsageOfCall();
  UsageOfCall(const UsageOfCall&) = delete;
  UsageOfCall& operator=(const UsageOfCall&) = delete;

  void initializes() { counts_.inits = 1, counts_.calls = 0; }
  // `changed`: what the plans that there were do not hold for; empty for the first one.
  void plan_built(const std::string& changed);
  void plan_hit() { counts_.plan_hits = 1; }
  void not_planned(const std::string& reason);
  // There is a plan, and these variables cannot use it.
  void plan_rejected(const std::string& reason);

  // While one lives the wrapped module runs, and the clock stands still.
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
  // Null while recording is off. On the heap: a greenlet moves the frames of calls that
  // it interrupts elsewhere, where no pointer finds them.
  std::shared_ptr<CallClock> clock_;
  std::shared_ptr<CallClock> outer_;
  bool outer_was_running_ = false;
  std::pair<std::string, std::string> key_;
  UsageRow counts_;
};

}  // namespace nnx_wrappers::bridge
