// NVRTC: writes sources to a folder, puts the emulated instructions in place of the real ones and calls the host's
// compiler. Results are kept by what went into them.
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "image.h"
#include "rewrite_source.h"
#include "state.h"

namespace fs = std::filesystem;
using namespace harrier::emulated;

struct _nvrtcProgram {
  std::string source;
  std::string name;
  std::map<std::string, std::string> headers;
  std::string log;
  std::string image;
  bool is_text = false;
  int (*callback)(void*, void*) = nullptr;
  void* payload = nullptr;
};

namespace {

constexpr int kArchitectures[] = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};
const std::string kKernels = "codegen/cuda/kernels/";

struct Options {
  std::string architecture = "compute_75";
  std::vector<std::string> compiler;
  bool known_inputs = true;  // all that is compiled is in the program
};

/// Nothing where NVRTC would not know an option; then `unknown` says which.
std::optional<Options> parse(int count, const char* const* texts, std::string& unknown) {
  static const char* const kIgnored[] = {"-default-device",
                                         "--device-as-default-execution-space",
                                         "--no-cache",
                                         "-no-cache",
                                         "--ptxas-options",
                                         "-Xptxas",
                                         "-lineinfo",
                                         "--generate-line-info",
                                         "-diag-suppress",
                                         "--diag-suppress",
                                         "-w",
                                         "--disable-warnings",
                                         "--minimal",
                                         "-minimal",
                                         "--fast-compile",
                                         "-Ofc",
                                         "--extra-device-vectorization",
                                         "--restrict",
                                         "--split-compile",
                                         "--use_fast_math",
                                         "-use_fast_math",
                                         "--fmad",
                                         "-fmad"};
  Options options;
  for (int i = 0; i < count; ++i) {
    const std::string text = texts[i];
    const auto value = [&](const char* prefix) {
      return text.rfind(prefix, 0) == 0 ? text.substr(std::strlen(prefix)) : std::string();
    };
    std::string found;
    if (!(found = value("--gpu-architecture=")).empty() || !(found = value("-arch=")).empty()) {
      options.architecture = found;
    } else if (!(found = value("-std=")).empty() || !(found = value("--std=")).empty()) {
      options.compiler.push_back("-std=" + found);
    } else if (!(found = value("-I")).empty() || !(found = value("--include-path=")).empty()) {
      options.compiler.push_back("-I" + found);
      options.known_inputs = false;
    } else if (!(found = value("-D")).empty() || !(found = value("--define-macro=")).empty()) {
      options.compiler.push_back("-D" + found);
    } else {
      bool ignored = false;
      for (const char* known : kIgnored) ignored = ignored || text.rfind(known, 0) == 0;
      if (ignored) continue;
      unknown = text;
      return std::nullopt;
    }
  }
  const std::string& name = options.architecture;
  const std::size_t underscore = name.find('_');
  bool supported = false;
  for (const int version : kArchitectures) {
    supported = supported || (underscore != std::string::npos && std::atoi(name.c_str() + underscore + 1) == version);
  }
  if (supported) return options;
  unknown = "--gpu-architecture=" + name;
  return std::nullopt;
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

/// Of `files`, what `path` includes by way of any number of others, and itself.
void reach(const std::map<std::string, std::string>& files, const std::string& path,
           std::map<std::string, std::string>& reached) {
  const auto file = files.find(path);
  if (file == files.end() || !reached.emplace(*file).second) return;
  static constexpr char kInclude[] = "#include \"";
  for (std::size_t at = 0; (at = file->second.find(kInclude, at)) != std::string::npos;) {
    at += sizeof kInclude - 1;
    reach(files, file->second.substr(at, file->second.find('"', at) - at), reached);
  }
}

/// FNV-1a of 64 bits, over parts that cannot run into each other.
struct Key {
  std::uint64_t value = 0xcbf29ce484222325ull;
  void add(const std::string& part) {
    for (const char c : part + fmt::format("/{}/", part.size()))
      value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  }
};

bool run(const std::vector<std::string>& command, const fs::path& log) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  pid_t process = 0;
  const bool started = posix_spawnp(&process, arguments[0], &actions, nullptr, arguments.data(), environ) == 0;
  posix_spawn_file_actions_destroy(&actions);
  int status = 1;
  return started && waitpid(process, &status, 0) == process && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// A folder that goes away with it.
struct TemporaryFolder {
  fs::path path;
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "harrier_nvrtc_XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) path = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path.empty()) fs::remove_all(path, ignored);
  }
};

/// The library, or nothing with the compiler's text in `log`.
std::string compile(const _nvrtcProgram& program, const Options& options, std::string& log) {
  const fs::path own = HARRIER_EMULATED_SOURCES;
  const std::string& name = options.architecture;
  const bool specific = name.back() == 'a';
  const int version = std::atoi(name.c_str() + name.find('_') + 1);
  std::vector<std::string> command = {HARRIER_EMULATED_COMPILER,
                                      "-shared",
                                      "-fPIC",
                                      "-O1",
                                      "-w",
                                      "-Wno-psabi",
                                      "-fno-strict-aliasing",
                                      "-fno-math-errno",
                                      "-fno-trapping-math",
                                      "-fwrapv",
                                      "-D__CUDACC__",
                                      "-D__CUDACC_RTC__",
                                      fmt::format("-D__CUDA_ARCH__={}0", version)};
  if (specific) command.push_back(fmt::format("-D__CUDA_ARCH_FEAT_SM{}_ALL", version));
  bool has_standard = false;
  for (const std::string& option : options.compiler) has_standard = has_standard || option.rfind("-std=", 0) == 0;
  if (!has_standard) command.push_back("-std=c++17");

  std::map<std::string, std::string> files;
  for (const auto& [path, text] : program.headers) files[path] = rewrite_shared_memory(text);
  files[kKernels + "ptx.cuh"] = read(own / "ptx.cuh");
  files[kKernels + "wgmma.cuh"] = read(own / "wgmma.cuh");
  for (const char* header : {"prelude.h", "device_api.h", "number_formats.h"}) files[header] = read(own / header);
  const std::string main = "program/" + fs::path(program.name).filename().string();
  files[main] = rewrite_shared_memory(program.source) + launchers(program.source);
  std::map<std::string, std::string> used;
  reach(files, main, used);
  reach(files, "prelude.h", used);

  Key key;
  for (const auto& [path, text] : used) key.add(path), key.add(text);
  for (const std::string& word : command) key.add(word);
  for (const std::string& word : options.compiler) key.add(word);
  const fs::path kept = fs::path(HARRIER_EMULATED_CACHE) / fmt::format("{:016x}.so", key.value);
  if (options.known_inputs && fs::exists(kept)) return read(kept);

  const TemporaryFolder folder;
  if (folder.path.empty()) {
    log = "no temporary folder";
    return "";
  }
  for (const auto& [path, text] : options.known_inputs ? used : files) write(folder.path / path, text);
  command.push_back("-I" + folder.path.string());
  command.insert(command.end(), options.compiler.begin(), options.compiler.end());
  const std::string library = (folder.path / "program.so").string();
  for (const std::string& word : {std::string("-include"), (folder.path / "prelude.h").string(), std::string("-x"),
                                  std::string("c++"), (folder.path / main).string(), std::string("-o"), library}) {
    command.push_back(word);
  }
  const bool compiled = run(command, folder.path / "log");
  log = read(folder.path / "log");
  if (!compiled) return "";
  std::error_code ignored;
  fs::create_directories(kept.parent_path(), ignored);
  const fs::path fresh = kept.string() + fmt::format(".{}", getpid());
  fs::copy_file(library, fresh, fs::copy_options::overwrite_existing, ignored);
  fs::rename(fresh, kept, ignored);
  return read(library);
}

}  // namespace

HARRIER_EXPORT nvrtcResult nvrtcVersion(int* major, int* minor) {
  HARRIER_ENTER(Needs::kNothing);
  if (major == nullptr || minor == nullptr) return NVRTC_ERROR_INVALID_INPUT;
  *major = 13;
  *minor = 0;
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetNumSupportedArchs(int* count) {
  HARRIER_ENTER(Needs::kNothing);
  *count = static_cast<int>(std::size(kArchitectures));
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetSupportedArchs(int* architectures) {
  HARRIER_ENTER(Needs::kNothing);
  std::copy(std::begin(kArchitectures), std::end(kArchitectures), architectures);
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcCreateProgram(nvrtcProgram* program, const char* source, const char* name, int headers,
                                              const char* const* header_sources, const char* const* header_names) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr || source == nullptr || headers < 0) return NVRTC_ERROR_INVALID_INPUT;
  *program = new _nvrtcProgram;
  (*program)->source = source;
  (*program)->name = name == nullptr || *name == '\0' ? "default_program" : name;
  for (int i = 0; i < headers; ++i) (*program)->headers[header_names[i]] = header_sources[i];
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcDestroyProgram(nvrtcProgram* program) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr || *program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  delete *program;
  *program = nullptr;
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int count, const char* const* options) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  std::string unknown;
  const auto parsed = parse(count, options, unknown);
  if (!parsed) {
    program->log = fmt::format("nvrtc: error: invalid value or option {}\n", unknown);
    return NVRTC_ERROR_INVALID_OPTION;
  }
  if (program->callback != nullptr && program->callback(program->payload, nullptr) != 0) return NVRTC_ERROR_CANCELLED;
  const std::string library = compile(*program, *parsed, program->log);
  if (library.empty()) return NVRTC_ERROR_COMPILATION;
  program->image = write_image({parsed->architecture, library});
  program->is_text = parsed->architecture.rfind("compute_", 0) == 0;
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, std::size_t* bytes) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  *bytes = program->log.size() + 1;
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char* log) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  std::memcpy(log, program->log.c_str(), program->log.size() + 1);
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, std::size_t* bytes) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  *bytes = program->is_text ? 0 : program->image.size();
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char* cubin) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr || program->is_text) return NVRTC_ERROR_INVALID_PROGRAM;
  std::memcpy(cubin, program->image.data(), program->image.size());
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetPTXSize(nvrtcProgram program, std::size_t* bytes) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  *bytes = program->is_text ? program->image.size() + 1 : 0;
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetPTX(nvrtcProgram program, char* ptx) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr || !program->is_text) return NVRTC_ERROR_INVALID_PROGRAM;
  std::memcpy(ptx, program->image.c_str(), program->image.size() + 1);
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcSetFlowCallback(nvrtcProgram program, int (*callback)(void*, void*), void* payload) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  program->callback = callback;
  program->payload = payload;
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT const char* nvrtcGetErrorString(nvrtcResult result) {
  static constexpr const char* kNames[] = {"NVRTC_SUCCESS",
                                           "NVRTC_ERROR_OUT_OF_MEMORY",
                                           "NVRTC_ERROR_PROGRAM_CREATION_FAILURE",
                                           "NVRTC_ERROR_INVALID_INPUT",
                                           "NVRTC_ERROR_INVALID_PROGRAM",
                                           "NVRTC_ERROR_INVALID_OPTION",
                                           "NVRTC_ERROR_COMPILATION"};
  if (result == NVRTC_ERROR_CANCELLED) return "NVRTC_ERROR_CANCELLED";
  return result >= 0 && result <= NVRTC_ERROR_COMPILATION ? kNames[result] : "NVRTC_ERROR unknown";
}
