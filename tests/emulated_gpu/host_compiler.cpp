#include "host_compiler.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "rewrite_source.h"

namespace fs = std::filesystem;

namespace harrier::emulated {
namespace {

const std::string kKernels = "codegen/cuda/kernels/";

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

}  // namespace

std::string compile_for_host(const Program& program, std::string& log) {
  const fs::path own = HARRIER_EMULATED_SOURCES;
  const std::string& name = program.architecture;
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
  for (const std::string& option : program.options) has_standard = has_standard || option.rfind("-std=", 0) == 0;
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
  for (const std::string& word : program.options) key.add(word);
  const fs::path kept = fs::path(HARRIER_EMULATED_CACHE) / fmt::format("{:016x}.so", key.value);
  if (program.known_inputs && fs::exists(kept)) return read(kept);

  const TemporaryFolder folder;
  if (folder.path.empty()) {
    log = "no temporary folder";
    return "";
  }
  for (const auto& [path, text] : program.known_inputs ? used : files) write(folder.path / path, text);
  command.push_back("-I" + folder.path.string());
  command.insert(command.end(), program.options.begin(), program.options.end());
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

}  // namespace harrier::emulated
