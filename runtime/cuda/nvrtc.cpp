#include "runtime/cuda/nvrtc.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>

#include "ir/error.h"
#include "runtime/cuda/library_identity.h"

namespace harrier::cuda {

#define HARRIER_NVRTC_FUNCTIONS(X)                                                                \
  X(version, "nvrtcVersion", (int* major, int* minor))                                            \
  X(create, "nvrtcCreateProgram",                                                                 \
    (void** program, const char* source, const char* name, int count, const char* const* headers, \
     const char* const* include_names))                                                           \
  X(destroy, "nvrtcDestroyProgram", (void** program))                                             \
  X(compile, "nvrtcCompileProgram", (void* program, int count, const char* const* options))       \
  X(log_size, "nvrtcGetProgramLogSize", (void* program, size_t* bytes))                           \
  X(log, "nvrtcGetProgramLog", (void* program, char* text))                                       \
  X(cubin_size, "nvrtcGetCUBINSize", (void* program, size_t* bytes))                              \
  X(cubin, "nvrtcGetCUBIN", (void* program, char* bytes))                                         \
  X(ptx_size, "nvrtcGetPTXSize", (void* program, size_t* bytes))                                  \
  X(ptx, "nvrtcGetPTX", (void* program, char* text))

struct NvrtcApi {
// Parentheses would make these no declarator. NOLINTNEXTLINE(bugprone-macro-parentheses)
#define HARRIER_DECLARE(member, symbol, parameters) int(*member) parameters = nullptr;
  HARRIER_NVRTC_FUNCTIONS(HARRIER_DECLARE)
#undef HARRIER_DECLARE
  const char* (*error_text)(int) = nullptr;
  // Since CUDA 12.8; without it a compile under way runs to its end.
  int (*set_flow_callback)(void* program, int (*callback)(void*, void*), void* payload) = nullptr;
};

namespace {

template <typename Pointer>
bool find(void* library, const char* symbol, Pointer& function) {
  function = reinterpret_cast<Pointer>(dlsym(library, symbol));
  return function != nullptr;
}

std::vector<std::string> candidates(const std::string& path) {
  if (!path.empty()) return {path};
  if (const char* wanted = std::getenv("HARRIER_NVRTC"); wanted != nullptr && *wanted != '\0') return {wanted};
  const std::vector<std::string> names = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
  std::vector<std::string> found = names;
  const char* home = std::getenv("CUDA_HOME");
  for (const std::string& root :
       {std::string(home != nullptr ? home : "/usr/local/cuda"), std::string("/usr/local/cuda")}) {
    for (const char* folder : {"lib64", "lib"}) {
      for (const std::string& name : names) found.push_back(fmt::format("{}/{}/{}", root, folder, name));
    }
  }
  return found;
}

/// Destroys its program at the end.
class Program {
 public:
  Program(const NvrtcApi& api, const CudaSource& source) : api_(api) {
    std::vector<std::string> names;
    std::vector<std::string> texts;
    for (const IncludedFile& file : source.includes) {
      names.emplace_back(file.name);
      texts.emplace_back(file.text);
    }
    std::vector<const char*> name_pointers;
    std::vector<const char*> text_pointers;
    for (const std::string& name : names) name_pointers.push_back(name.c_str());
    for (const std::string& text : texts) text_pointers.push_back(text.c_str());
    check(api.create(&program_, std::string(source.text).c_str(), "kernel.cu", static_cast<int>(names.size()),
                     text_pointers.data(), name_pointers.data()),
          "making a program");
  }
  ~Program() { api_.destroy(&program_); }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void* get() const { return program_; }

  void check(int result, const char* what) const {
    if (result == 0) return;
    throw ToolchainError(fmt::format("NVRTC: {}: {}", what, api_.error_text(result)), log());
  }

  std::string log() const {
    size_t bytes = 0;
    if (program_ == nullptr || api_.log_size(program_, &bytes) != 0 || bytes <= 1) return {};
    std::string text(bytes, '\0');
    api_.log(program_, text.data());
    text.resize(bytes - 1);
    return text;
  }

  template <typename Size, typename Get>
  std::vector<char> output(Size size, Get copy) const {
    size_t bytes = 0;
    check(size(program_, &bytes), "the output's size");
    std::vector<char> image(bytes);
    check(copy(program_, image.data()), "the output");
    return image;
  }

 private:
  const NvrtcApi& api_;
  void* program_ = nullptr;
};

constexpr char kLanguage[] = "-std=c++17";
constexpr char kDefaultDevice[] = "-default-device";

constexpr int kInvalidOption = 5;
constexpr int kBuiltinsFailed = 7;

std::string remedy_for(int result, const Nvrtc& nvrtc, const std::string& architecture) {
  switch (result) {
    case kInvalidOption:
      return fmt::format("it does not know {}: use a newer one, `scripts/setup nvrtc` brings it", architecture);
    case kBuiltinsFailed:
      return fmt::format("libnvrtc-builtins must lie beside {}: `scripts/setup nvrtc` brings both", nvrtc.path);
    default:
      return "this is our bug, please report the log";
  }
}

int stops(void* token, void* /*reserved*/) { return static_cast<std::stop_token*>(token)->stop_requested() ? 1 : 0; }

/// Programs that may be compiled at a time: a large kernel takes NVRTC some hundred MB.
unsigned concurrent_compiles() {
  constexpr int64_t kBytesEach = int64_t{1} << 30;
  const int64_t free_bytes = static_cast<int64_t>(sysconf(_SC_AVPHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  const auto by_memory = static_cast<unsigned>(std::max<int64_t>(1, free_bytes / kBytesEach));
  return std::min(by_memory, std::max(1U, std::thread::hardware_concurrency()));
}

int number_before(const std::string& line, const char* words) {
  const size_t end = line.find(words);
  if (end == std::string::npos || end == 0) return 0;
  const size_t last = line.find_last_of("0123456789", end - 1);
  if (last == std::string::npos) return 0;
  const size_t before = line.find_last_not_of("0123456789", last);
  return std::atoi(line.c_str() + (before == std::string::npos ? 0 : before + 1));
}

}  // namespace

Nvrtc load_nvrtc(const std::string& path) {
  const std::vector<std::string> places = candidates(path);
  for (const std::string& place : places) {
    void* library = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) continue;
    auto api = std::make_shared<NvrtcApi>();
    bool complete = find(library, "nvrtcGetErrorString", api->error_text);
#define HARRIER_FIND(member, symbol, parameters) complete = find(library, symbol, api->member) && complete;
    HARRIER_NVRTC_FUNCTIONS(HARRIER_FIND)
#undef HARRIER_FIND
    if (!complete) continue;
    find(library, "nvrtcSetFlowCallback", api->set_flow_callback);
    Nvrtc nvrtc{.api = api, .path = place};
    api->version(&nvrtc.major, &nvrtc.minor);
    LibraryIdentity identity = identify_library(reinterpret_cast<const void*>(api->version));
    nvrtc.file = std::move(identity.file);
    nvrtc.build_id = std::move(identity.build_id);
    return nvrtc;
  }
  throw ToolchainError(
      fmt::format("no NVRTC: looked for {}: `scripts/setup nvrtc` brings it, or set HARRIER_NVRTC to a libnvrtc.so",
                  fmt::join(places, ", ")));
}

std::string nvrtc_wish(const std::string& path) {
  const auto value = [](const char* name) {
    const char* text = std::getenv(name);
    return std::string(text != nullptr ? text : "");
  };
  if (!path.empty()) return "path " + path;
  if (const std::string named = value("HARRIER_NVRTC"); !named.empty()) return "path " + named;
  return fmt::format("loader {} {} {}", value("LD_LIBRARY_PATH"), value("CUDA_HOME"), file_stamp("/etc/ld.so.cache"));
}

std::string_view nvrtc_code_options() {
  static const std::string kOptions = fmt::format("{} {}", kLanguage, kDefaultDevice);
  return kOptions;
}

struct LazyNvrtc::State {
  std::string path;
  mutable std::mutex mutex;
  std::optional<Nvrtc> nvrtc;
};

LazyNvrtc::LazyNvrtc(std::string path) : state_(std::make_shared<State>()) { state_->path = std::move(path); }

LazyNvrtc::LazyNvrtc(Nvrtc loaded) : LazyNvrtc(loaded.path) { state_->nvrtc = std::move(loaded); }

const Nvrtc& LazyNvrtc::get() const {
  const std::lock_guard lock(state_->mutex);
  if (!state_->nvrtc) state_->nvrtc = load_nvrtc(state_->path);
  return *state_->nvrtc;
}

bool LazyNvrtc::is_loaded() const {
  const std::lock_guard lock(state_->mutex);
  return state_->nvrtc.has_value();
}

const std::string& LazyNvrtc::path() const { return state_->path; }

CudaBinary compile(const Nvrtc& nvrtc, const CudaSource& source) {
  const NvrtcApi& api = *nvrtc.api;
  const auto start = std::chrono::steady_clock::now();
  const Program program(api, source);
  std::stop_token stop = source.stop;
  if (api.set_flow_callback != nullptr && stop.stop_possible()) {
    program.check(api.set_flow_callback(program.get(), &stops, &stop), "asking to be stoppable");
  }
  const bool is_ptx = source.architecture.starts_with("compute_");
  const std::string architecture = "--gpu-architecture=" + source.architecture;
  std::vector<const char*> options = {architecture.c_str(), kLanguage, kDefaultDevice};
  if (!is_ptx) options.push_back("--ptxas-options=-v");
  if (!source.use_cache) options.push_back("--no-cache");
  const int result = api.compile(program.get(), static_cast<int>(options.size()), options.data());
  if (stop.stop_requested()) throw ToolchainError("NVRTC: the compile was stopped as asked");
  if (result != 0) {
    throw ToolchainError(
        fmt::format("NVRTC {}.{} refused the kernel for {}: {}: {}", nvrtc.major, nvrtc.minor, source.architecture,
                    api.error_text(result), remedy_for(result, nvrtc, source.architecture)),
        program.log());
  }
  CudaBinary binary;
  binary.log = program.log();
  binary.image = is_ptx ? program.output(api.ptx_size, api.ptx) : program.output(api.cubin_size, api.cubin);
  binary.entries = entries_of_log(binary.log);
  binary.notes = notes_of_log(binary.log);
  const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
  binary.compile_us = spent.count();
  return binary;
}

std::vector<CompileResult> compile_all(const Nvrtc& nvrtc, std::span<const CudaSource> sources) {
  std::vector<CompileResult> results(sources.size());
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next++; i < sources.size(); i = next++) {
      try {
        results[i].binary = compile(nvrtc, sources[i]);
      } catch (const std::exception& error) {
        // Out of memory too: an exception must not leave the thread.
        results[i].error = error.what();
      }
    }
  };
  const size_t threads = std::min<size_t>(sources.size(), concurrent_compiles());
  std::vector<std::jthread> pool;
  for (size_t i = 1; i < threads; ++i) pool.emplace_back(work);
  work();
  return results;
}

std::vector<EntryUse> entries_of_log(const std::string& log) {
  std::istringstream lines(log);
  std::vector<EntryUse> entries;
  for (std::string line; std::getline(lines, line);) {
    const size_t entry = line.find("Compiling entry function '");
    if (entry != std::string::npos) {
      const size_t begin = line.find('\'', entry) + 1;
      entries.push_back({.name = line.substr(begin, line.find('\'', begin) - begin)});
    }
    if (entries.empty()) continue;
    // Also said of functions that were not inlined, after the entry that calls them: their spills are the entry's.
    if (line.find("bytes spill stores") != std::string::npos) {
      entries.back().stack_bytes += number_before(line, " bytes stack frame");
      entries.back().spill_bytes +=
          number_before(line, " bytes spill stores") + number_before(line, " bytes spill loads");
    }
    if (line.find("Used ") != std::string::npos) entries.back().registers = number_before(line, " registers");
  }
  return entries;
}

std::vector<std::string> notes_of_log(const std::string& log) {
  std::istringstream lines(log);
  std::vector<std::string> notes;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("(C75") != std::string::npos) notes.push_back(line);
  }
  return notes;
}

}  // namespace harrier::cuda
