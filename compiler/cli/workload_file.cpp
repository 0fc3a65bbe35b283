#include "cli/workload_file.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "ir/error.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace harrier {
namespace {

constexpr uintmax_t kLargestText = uintmax_t{1} << 20;  // The parser's own limit: no need to read more.

std::string read_text(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    throw InvalidInput(fmt::format("{}: no such file: check the path of the .attn file", path));
  }
  std::ifstream file(path, std::ios::binary);
  if (std::filesystem::is_directory(path, error) || !file) {
    throw InvalidInput(fmt::format("{}: cannot be read: name an .attn file you may read", path));
  }
  std::string text;
  char buffer[4096];
  while (file.read(buffer, sizeof buffer) || file.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(file.gcount()));
    if (text.size() > kLargestText) {
      throw InvalidInput(fmt::format("{}: longer than {} bytes: name an .attn file", path, kLargestText));
    }
  }
  return text;
}

template <typename Source>
void append_as_int64(const NpyArray& array, std::vector<int64_t>& values, const std::string& path) {
  const size_t count = array.bytes.size() / sizeof(Source);
  for (size_t i = 0; i < count; ++i) {
    Source value;
    std::memcpy(&value, array.bytes.data() + i * sizeof(Source), sizeof(Source));
    if constexpr (std::numeric_limits<Source>::max() > std::numeric_limits<int64_t>::max()) {
      if (value > static_cast<Source>(std::numeric_limits<int64_t>::max())) {
        throw InvalidInput(fmt::format("{}: entry {} is {}: at most 2^63 - 1 fits", path, i, value));
      }
    }
    values.push_back(static_cast<int64_t>(value));
  }
}

}  // namespace

Workload read_workload(const std::string& path) {
  const std::string text = read_text(path);
  try {
    Workload workload = parse_workload(text);
    load_trace(workload.lengths, std::filesystem::path(path).parent_path().string());
    verify(workload);
    return workload;
  } catch (const InvalidInput& error) {
    // A parse error starts with line and column, which editors read when the file's name comes right before.
    const bool has_place = std::isdigit(static_cast<unsigned char>(error.what()[0])) != 0;
    throw InvalidInput(fmt::format("{}:{}{}", path, has_place ? "" : " ", error.what()));
  }
}

Bindings NamedArrays::bindings() const {
  Bindings result;
  for (const auto& [name, array] : arrays) result[name] = array.view();
  return result;
}

NamedArrays read_bindings(const std::vector<BindOption>& options, const Pattern& pattern) {
  const std::vector<ArrayUse> uses = array_uses(pattern);
  std::vector<std::string> names;
  for (const ArrayUse& use : uses) names.push_back("@" + use.name);
  NamedArrays result;
  for (const BindOption& option : options) {
    const bool is_used =
        std::any_of(uses.begin(), uses.end(), [&](const ArrayUse& use) { return use.name == option.name; });
    if (!is_used) {
      throw InvalidInput(fmt::format(
          "--bind {}={}: the pattern has no @{}: {}", option.name, option.path, option.name,
          names.empty() ? "it binds no array, leave --bind out" : fmt::format("it binds {}", fmt::join(names, ", "))));
    }
    if (result.arrays.contains(option.name)) {
      throw InvalidInput(fmt::format("--bind {}={}: @{} is bound already: bind each name once", option.name,
                                     option.path, option.name));
    }
    result.arrays[option.name] = read_npy(option.path);
  }
  return result;
}

Bindings needed_by(const Pattern& simplified, const Bindings& all) {
  Bindings needed;
  for (const ArrayUse& use : array_uses(simplified)) {
    if (const auto found = all.find(use.name); found != all.end()) needed.insert(*found);
  }
  return needed;
}

std::vector<int64_t> read_integers(const std::string& path) {
  const NpyArray array = read_npy(path);
  if (array.shape.size() != 1) {
    throw InvalidInput(fmt::format("{}: shape ({}) has {} dimensions, not 1: save a plain list of integers", path,
                                   fmt::join(array.shape, ", "), array.shape.size()));
  }
  std::vector<int64_t> values;
  values.reserve(static_cast<size_t>(array.shape[0]));
  switch (array.type) {
    case ElementType::kInt8:
      append_as_int64<int8_t>(array, values, path);
      break;
    case ElementType::kUInt8:
      append_as_int64<uint8_t>(array, values, path);
      break;
    case ElementType::kInt16:
      append_as_int64<int16_t>(array, values, path);
      break;
    case ElementType::kUInt16:
      append_as_int64<uint16_t>(array, values, path);
      break;
    case ElementType::kInt32:
      append_as_int64<int32_t>(array, values, path);
      break;
    case ElementType::kUInt32:
      append_as_int64<uint32_t>(array, values, path);
      break;
    case ElementType::kInt64:
      append_as_int64<int64_t>(array, values, path);
      break;
    case ElementType::kUInt64:
      append_as_int64<uint64_t>(array, values, path);
      break;
    default:
      throw InvalidInput(
          fmt::format("{}: dtype {} is not an integer type: save it as int64", path, name_of(array.type)));
  }
  return values;
}

}  // namespace harrier
