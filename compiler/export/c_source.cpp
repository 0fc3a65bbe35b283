#include "compiler/export/c_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "compiler/export/runtime_files.h"
#include "ir/error.h"
#include "ir/text.h"

namespace harrier {
namespace {

constexpr const char* kName = "harrier_kernels";
constexpr const char* kUpperName = "HARRIER_KERNELS";
constexpr const char* kWorkloadsMark = "  // @workloads\n";

std::string upper(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

std::string_view runtime_file(std::string_view name) {
  const auto files = runtime_files();
  const auto found = std::ranges::find(files, name, &RuntimeFile::name);
  HARRIER_CHECK(found != files.end(), "every file that the runtime includes must be embedded");
  return found->text;
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

/// The file with the runtime's headers in the place of their includes, each once; the public header stays outside.
void expand(std::string_view name, std::set<std::string>& included, std::string& text) {
  std::istringstream lines{std::string(runtime_file(name))};
  for (std::string line; std::getline(lines, line);) {
    if (line == "#pragma once") continue;
    constexpr std::string_view kInclude = "#include \"";
    if (!line.starts_with(kInclude)) {
      text += line + "\n";
      continue;
    }
    const std::string header = line.substr(kInclude.size(), line.rfind('"') - kInclude.size());
    if (!included.insert(header).second) continue;
    if (header == std::string(kName) + ".h") {
      text += line + "\n";
    } else {
      expand(header, included, text);
    }
  }
}

std::string list_of_arrays(const ExportedWorkload& workload) {
  std::string text;
  const auto add = [&](const std::string& name) {
    if (!name.empty()) text += (text.empty() ? "@" : ", @") + name;
  };
  add(workload.table.data);
  add(workload.table.offsets);
  for (const ExportedArray& array : workload.arrays) add(array.name);
  return text.empty() ? "no arrays" : "arrays " + text;
}

std::string workload_enumerators(const KernelExport& kernels, const std::string& name) {
  std::string text;
  for (const ExportedWorkload& workload : kernels.workloads) {
    text += fmt::format("  // {}: {}\n", list_of_arrays(workload),
                        canonical_text(workload.workload.pattern, workload.shape));
    text += fmt::format("  {}_workload_{},\n", name, workload.workload.name);
  }
  return text;
}

}  // namespace

std::vector<ExportedFile> c_files(const KernelExport& kernels, const std::string& name) {
  const auto named = [&](std::string text) {
    replace_all(text, kName, name);
    replace_all(text, kUpperName, upper(name));
    return text;
  };
  const std::string config = std::string(kName) + "-config.cmake";
  std::string source;
  std::set<std::string> included;
  expand(std::string(kName) + ".c", included, source);
  std::string header = named(std::string(runtime_file(std::string(kName) + ".h")));
  const size_t mark = header.find(kWorkloadsMark);
  HARRIER_CHECK(mark != std::string::npos, "the header must say where workloads stand");
  header.replace(mark, std::string(kWorkloadsMark).size(), workload_enumerators(kernels, name));
  return {{.name = "CMakeLists.txt", .bytes = named(std::string(runtime_file("CMakeLists.txt")))},
          {.name = named(config), .bytes = named(std::string(runtime_file(config)))},
          {.name = name + ".c", .bytes = named(source) + "\n" + c_tables(kernels)},
          {.name = name + ".h", .bytes = header}};
}

}  // namespace harrier
