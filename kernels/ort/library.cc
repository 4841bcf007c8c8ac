#include "library.h"

#include <cstdlib>
#include <mutex>

#include "../platform/library_file.h"
#include "../platform/process.h"

namespace switchyard::ort {
namespace {

struct Library {
  std::string path;
  std::string version;
  Functions functions{};
  OrtEnv* environment = nullptr;
  OrtMemoryInfo* cpu_memory = nullptr;
};

// Leaked on purpose: kernels on other threads may still use it while the process exits.
Library* library = nullptr;
std::mutex library_mutex;

// From version 1.29 on, ONNX Runtime for Linux reports its use to its maker, with an id and a database in the
// home folder, unless this variable is set before its environment is made; for Windows, it hands events to
// the system unless it is told not to. Whoever wants reports sets the variable to 0.
constexpr const char* kReportsOff = "ORT_DISABLE_TELEMETRY";

bool ReportsWanted() {
  const char* value = std::getenv(kReportsOff);
  const std::string setting = value == nullptr ? "" : value;
  if (setting.empty()) platform::SetEnvironment(kReportsOff, "1");
  return setting == "0";
}

platform::LibraryFile OpenFile(const std::string& path) try {
  return platform::LibraryFile(path);
} catch (const std::runtime_error& error) {
  throw std::runtime_error("cannot open ONNX Runtime: " + std::string(error.what()));
}

const OrtApiBase* ApiBase(const std::string& path) {
  auto get_base = OpenFile(path).Find<const OrtApiBase* (*)()>("OrtGetApiBase");
  if (get_base == nullptr)
    throw std::runtime_error(path + " is not an ONNX Runtime library: it has no OrtGetApiBase");
  return get_base();
}

const OrtApi* SupportedApi(const OrtApiBase* base, const std::string& path) {
  const std::string version = base->GetVersionString();
  char* end = nullptr;
  const unsigned long major = std::strtoul(version.c_str(), &end, 10);
  const unsigned long minor = *end == '.' ? std::strtoul(end + 1, nullptr, 10) : 0;
  if (major != 1 || minor < kApiVersion) {
    throw std::runtime_error("ONNX Runtime " + version + " (" + path + ") does not fit: need 1." +
                             std::to_string(kApiVersion) + " or a later 1.x");
  }
  const OrtApi* api = base->GetApi(kApiVersion);
  if (api == nullptr) {
    throw std::runtime_error("ONNX Runtime " + version + " (" + path + ") does not offer API " +
                             std::to_string(kApiVersion));
  }
  return api;
}

Functions LoadFunctions(const OrtApi* api) {
  auto table = reinterpret_cast<void* const*>(api);
  Functions functions{};
#define SWITCHYARD_ORT_LOAD(name, position, result, parameters) \
  functions.name = reinterpret_cast<result(*) parameters>(table[position]);
  SWITCHYARD_ORT_FUNCTIONS(SWITCHYARD_ORT_LOAD)
#undef SWITCHYARD_ORT_LOAD
  return functions;
}

// A status and a tensor, made and read back: had a position in the table moved, these would not come back as
// they went.
void CheckRoundTrips() {
  OrtStatus* status = Api().CreateStatus(kInvalidArgument, "round trip");
  const bool status_ok = status != nullptr && Api().GetErrorCode(status) == kInvalidArgument &&
                         std::string(Api().GetErrorMessage(status)) == "round trip";
  if (status != nullptr) Api().ReleaseStatus(status);

  int32_t data[6] = {};
  ValuePtr value = WrapMemory(data, sizeof data, kInt32, {2, 3});
  const TensorView view = View(value.get());
  const bool tensor_ok = view.type == kInt32 && view.shape == std::vector<int64_t>{2, 3} && view.data == data;
  if (!status_ok || !tensor_ok) {
    throw std::runtime_error("ONNX Runtime " + library->version + " (" + library->path +
                             ") does not behave as its C interface promises; reinstall onnxruntime-node");
  }
}

}  // namespace

void OpenLibrary(const std::string& path) {
  std::lock_guard<std::mutex> lock(library_mutex);
  if (library != nullptr) {
    if (library->path == path) return;
    throw std::runtime_error("ONNX Runtime is already open from " + library->path + "; cannot also open " +
                             path);
  }
  const bool reports = ReportsWanted();
  const OrtApiBase* base = ApiBase(path);
  const OrtApi* api = SupportedApi(base, path);
  library = new Library{path, base->GetVersionString(), LoadFunctions(api)};
  try {
    // Warnings are about graphs as a stranger would write them, such as indices that might be equal.
    Check(Api().CreateEnv(kLogError, "switchyard", &library->environment));
    if (!reports) Check(Api().DisableTelemetryEvents(library->environment));
    Check(Api().CreateCpuMemoryInfo(kDeviceAllocator, kMemoryDefault, &library->cpu_memory));
    CheckRoundTrips();
  } catch (...) {
    library = nullptr;
    throw;
  }
}

const std::string& LibraryVersion() { return library->version; }
const Functions& Api() { return library->functions; }
OrtEnv* Environment() { return library->environment; }
const OrtMemoryInfo* CpuMemory() { return library->cpu_memory; }

ValuePtr WrapMemory(void* data, size_t bytes, ElementType type, const std::vector<int64_t>& shape,
                    const OrtMemoryInfo* memory) {
  static char nothing;  // ORT wants an address even for no bytes
  OrtValue* value = nullptr;
  if (memory == nullptr) memory = CpuMemory();
  Check(Api().CreateTensorWithDataAsOrtValue(memory, bytes == 0 ? &nothing : data, bytes, shape.data(),
                                             shape.size(), type, &value));
  return ValuePtr(value);
}

}  // namespace switchyard::ort
