#include "nnx_wrappers/interpreter.h"

#include <nanobind/nanobind.h>

#include <filesystem>
#include <new>
#include <stdexcept>
#include <system_error>

// Each binary has its own pointer to nanobind's state, and only an extension module in the binary
// sets it, so the program has an empty one. The linker takes this object file only into programs
// that use an Interpreter, and never into the extension.
NB_MODULE(nnx_wrappers_program, module) {  // NOLINT(performance-unnecessary-value-param)
  module.doc() = "Sets nanobind up for a C++ program that uses nnx_wrappers.";
}

namespace nnx_wrappers {

namespace {

constexpr const char* kModule = "nnx_wrappers_program";

// Owns a PyConfig.
class Config {
 public:
  Config() { PyConfig_InitPythonConfig(&config_); }
  ~Config() { PyConfig_Clear(&config_); }
  Config(const Config&) = delete;
  Config& operator=(const Config&) = delete;

  PyConfig* get() { return &config_; }

 private:
  PyConfig config_;
};

void require(const PyStatus& status, const char* step) {
  if (PyStatus_Exception(status) == 0) return;
  std::string text = std::string("nnx_wrappers::Interpreter: ") + step + " failed";
  if (status.func != nullptr) text += std::string(" in ") + status.func;
  if (status.err_msg != nullptr) text += std::string(": ") + status.err_msg;
  throw std::runtime_error(text);
}

void require_program(const std::string& path) {
  std::error_code ignored;
  if (path.empty() || std::filesystem::exists(path, ignored)) return;
  throw std::runtime_error("nnx_wrappers::Interpreter: there is no " + path +
                           "; give the path of a Python program");
}

void start(const InterpreterOptions& options) {
  Config config;
  PyConfig* raw = config.get();
  if (!options.executable.empty()) {
    // Python finds the environment's pyvenv.cfg by an absolute path only.
    const std::string path = std::filesystem::absolute(options.executable).string();
    require(PyConfig_SetBytesString(raw, &raw->program_name, path.c_str()), "program_name");
    require(PyConfig_SetBytesString(raw, &raw->executable, path.c_str()), "executable");
  }
  raw->parse_argv = 0;
  if (!options.arguments.empty()) {
    std::vector<char*> arguments;
    arguments.reserve(options.arguments.size());
    for (const std::string& argument : options.arguments) {
      arguments.push_back(const_cast<char*>(argument.c_str()));  // only read by Python
    }
    require(PyConfig_SetBytesArgv(raw, static_cast<Py_ssize_t>(arguments.size()), arguments.data()),
            "argv");
  }
  require(Py_InitializeFromConfig(raw), "starting Python");
}

}  // namespace

Interpreter::Interpreter(const InterpreterOptions& options) {
  static bool started = false;
  if (started || Py_IsInitialized() != 0) {
    throw std::logic_error("nnx_wrappers::Interpreter: Python runs or ran in this process already");
  }
  require_program(options.executable);
  started = true;
  if (PyImport_AppendInittab(kModule, &PyInit_nnx_wrappers_program) != 0) throw std::bad_alloc();
  start(options);
  PyObject* module = PyImport_ImportModule(kModule);
  if (module == nullptr) {
    PyErr_Print();
    Py_FinalizeEx();
    throw std::runtime_error("nnx_wrappers::Interpreter: nanobind could not be set up");
  }
  Py_DECREF(module);  // sys.modules keeps it
  running_ = true;
}

bool Interpreter::finish() {
  if (!running_) return true;
  running_ = false;
  return Py_FinalizeEx() == 0;
}

Interpreter::~Interpreter() { finish(); }

}  // namespace nnx_wrappers
