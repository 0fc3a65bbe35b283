// `harrier check`: is the file well-formed, what does it mean, what must be bound?
#include <fmt/core.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/commands.h"
#include "cli/describe_array.h"
#include "cli/json_text.h"
#include "cli/workload_file.h"
#include "compiler/passes/simplify.h"
#include "ir/error.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace harrier {
namespace {

struct CheckedArray {
  std::string name;
  std::string role;
  std::string shape;
};

struct CheckedFile {
  std::string name;
  std::string canonical;
  std::vector<CheckedArray> arrays;
};

CheckedFile check_file(const std::string& path) {
  const Workload workload = read_workload(path);
  const Pattern simplified = simplify(workload.pattern);
  CheckedFile checked{.name = workload.name, .canonical = canonical_text(simplified, workload.shape), .arrays = {}};
  for (const ArrayUse& use : array_uses(simplified)) {
    checked.arrays.push_back(
        {.name = use.name, .role = name_of(use.role), .shape = describe_array(use, simplified, workload.shape)});
  }
  return checked;
}

void print_checked(const std::string& path, const CheckedFile& checked, std::ostream& out) {
  fmt::print(out, "{}: ok\n  {}\n", path, checked.canonical);
  size_t name_width = 0;
  size_t role_width = 0;
  for (const CheckedArray& array : checked.arrays) {
    name_width = std::max(name_width, array.name.size());
    role_width = std::max(role_width, array.role.size());
  }
  for (const CheckedArray& array : checked.arrays) {
    fmt::print(out, "  bind @{:{}}  {:{}}  {}\n", array.name, name_width, array.role, role_width, array.shape);
  }
}

nlohmann::ordered_json as_json(const std::string& path, const CheckedFile& checked) {
  nlohmann::ordered_json arrays = nlohmann::ordered_json::array();
  for (const CheckedArray& array : checked.arrays) {
    arrays.push_back({{"name", array.name}, {"role", array.role}, {"shape", array.shape}});
  }
  return {{"file", path}, {"ok", true}, {"name", checked.name}, {"canonical", checked.canonical}, {"arrays", arrays}};
}

}  // namespace

int check_command(const CheckOptions& options, Streams& streams) {
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  bool is_ok = true;
  for (const std::string& path : options.files) {
    try {
      const CheckedFile checked = check_file(path);
      if (!options.json) print_checked(path, checked, streams.out);
      files.push_back(as_json(path, checked));
    } catch (const InvalidInput& error) {
      // One bad file must not hide what is wrong with the next.
      is_ok = false;
      fmt::print(streams.error, "harrier: {}\n", error.what());
      files.push_back({{"file", path}, {"ok", false}, {"error", error.what()}});
    }
  }
  if (options.json) print_json({{"command", "check"}, {"ok", is_ok}, {"files", files}}, streams.out);
  return is_ok ? kSuccess : kBadInput;
}

}  // namespace harrier
