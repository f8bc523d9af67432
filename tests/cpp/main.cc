// Runs the tests in one Python: nnx_wrappers_tests [--gtest_...] PYTHON
#include <array>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string_view>

#include "nnx_wrappers/interpreter.h"
#include "support.h"

namespace {

// CTest runs one room at a time by this prefix: a suite without one would never run.
bool every_suite_has_a_room() {
  constexpr std::array<std::string_view, 5> kRooms = {"Py", "Flax", "Graph", "Bridge",
                                                      "References"};
  const auto& all = *::testing::UnitTest::GetInstance();
  for (int i = 0; i < all.total_test_suite_count(); ++i) {
    std::string_view name = all.GetTestSuite(i)->name();
    if (const auto slash = name.find('/'); slash != std::string_view::npos) {
      name.remove_prefix(slash + 1);  // of a parametrised suite
    }
    bool found = false;
    for (const std::string_view room : kRooms) found = found || name.starts_with(room);
    if (found) continue;
    std::fprintf(stderr, "The test suite %s must begin with the name of a room.\n",
                 all.GetTestSuite(i)->name());
    return false;
  }
  return true;
}

bool can_start(const char* program) {
  try {
    const nnx_wrappers::Interpreter python({.executable = program, .arguments = {}});
    return true;
  } catch (const std::runtime_error&) {
    return false;
  }
}

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleMock(&argc, argv);
  if (argc != 2 || !every_suite_has_a_room()) {
    std::fprintf(stderr, "usage: %s [--gtest_...] PYTHON\n", argv[0]);
    return 2;
  }
  namespace support = nnx_wrappers::testing;
  support::started_without_program = can_start("/no/such/python");
  try {
    nnx_wrappers::Interpreter python({.executable = argv[1], .arguments = {"tests", "argument"}});
    support::prepare();
    const int failed = RUN_ALL_TESTS();
    support::release();
    return python.finish() ? failed : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
