#include "compiler/export/fatbin.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "ir/error.h"

namespace harrier {
namespace {

namespace fs = std::filesystem;

/// The program, or its name for $PATH to resolve.
std::string find_fatbinary() {
  if (const char* wanted = std::getenv("HARRIER_FATBINARY"); wanted != nullptr && *wanted != '\0') return wanted;
  const char* home = std::getenv("CUDA_HOME");
  for (const fs::path& folder : {fs::path(home != nullptr ? home : ""), fs::path("/usr/local/cuda")}) {
    std::error_code error;
    if (!folder.empty() && fs::exists(folder / "bin/fatbinary", error)) return (folder / "bin/fatbinary").string();
  }
  return "fatbinary";
}

/// A folder for the tool's inputs and its output.
class WorkFolder {
 public:
  WorkFolder() {
    std::string pattern = (fs::temp_directory_path() / "harrier_fatbin_XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) {
      throw ToolchainError(fmt::format("{} cannot be made: set TMPDIR to a folder that may be written", pattern));
    }
    path_ = pattern;
  }
  ~WorkFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;

  std::string file(const std::string& name) const { return (path_ / name).string(); }

  std::string read(const std::string& name) const {
    std::ifstream in(path_ / name, std::ios::binary);
    std::ostringstream bytes;
    bytes << in.rdbuf();
    return bytes.str();
  }

  void write(const std::string& name, const std::vector<char>& bytes) const {
    std::ofstream out(path_ / name, std::ios::binary);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

 private:
  fs::path path_;
};

/// Runs the tool in the folder, where it sees relative names alone: what it writes then does not depend on the place.
void run_tool(const WorkFolder& folder, const std::string& program, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), program);
  std::vector<char*> words;
  for (std::string& argument : arguments) words.push_back(argument.data());
  words.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, folder.file("").c_str());
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "log", O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t child = 0;
  const int spawned = ::posix_spawnp(&child, program.c_str(), &actions, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (spawned != 0) {
    throw ToolchainError(fmt::format(
        "{} does not start: install the CUDA toolkit, set HARRIER_FATBINARY, or export with --format c", program));
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  throw ToolchainError(fmt::format("{} failed: its words are below; --format c does without it", program),
                       folder.read("log"));
}

struct PackedImage {
  std::string architecture;
  const std::vector<char>* image;
};

std::string pack(const std::string& program, const std::vector<PackedImage>& images) {
  const WorkFolder folder;
  std::vector<std::string> arguments = {"--64", "--create=out.fatbin"};
  for (const PackedImage& packed : images) {
    const bool is_text = packed.architecture.starts_with("compute_");
    const std::string name = packed.architecture + (is_text ? ".ptx" : ".cubin");
    folder.write(name, *packed.image);
    arguments.push_back(fmt::format("--image3=kind={},sm={},file={}", is_text ? "ptx" : "elf",
                                    packed.architecture.substr(packed.architecture.find('_') + 1), name));
  }
  run_tool(folder, program, arguments);
  return folder.read("out.fatbin");
}

}  // namespace

std::vector<ExportedFile> fatbin_files(const KernelExport& kernels, const std::string& name) {
  const std::string program = find_fatbinary();
  std::vector<ExportedFile> files;
  for (const ExportedWorkload& workload : kernels.workloads) {
    size_t most = 0;
    for (const ExportedTarget& target : workload.targets) most = std::max(most, target.kernels.size());
    for (size_t i = 0; i < most; ++i) {
      std::vector<PackedImage> forward;
      std::vector<PackedImage> builder;
      for (const ExportedTarget& target : workload.targets) {
        if (i >= target.kernels.size()) continue;
        const ExportedKernel& kernel = target.kernels[i];
        forward.push_back({target.architecture, &kernels.images[kernel.kernel_image].image});
        builder.push_back({target.architecture, &kernels.images[kernel.builder_image].image});
      }
      const std::string stem = fmt::format("{}-{}-{}", name, workload.workload.name, i);
      files.push_back({.name = stem + ".fatbin", .bytes = pack(program, forward)});
      files.push_back({.name = stem + "-builder.fatbin", .bytes = pack(program, builder)});
    }
  }
  return files;
}

}  // namespace harrier
