#include "support/golden.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <regex>

#include "ir/error.h"

namespace harrier {
namespace {

constexpr size_t kHeaderStart = 10;  // magic, version, 16-bit header length

ElementType type_named(const std::string& descr) {
  if (descr == "<f4") return ElementType::kFloat32;
  if (descr == "<i4") return ElementType::kInt32;
  if (descr == "<i8") return ElementType::kInt64;
  throw InternalError("a golden has elements of " + descr);
}

}  // namespace

std::vector<double> GoldenArray::as_doubles() const {
  HARRIER_CHECK(type == ElementType::kFloat32, "a golden of floats holds something else");
  std::vector<double> values(bytes.size() / sizeof(float));
  for (size_t i = 0; i < values.size(); ++i) {
    float value = 0;
    std::memcpy(&value, bytes.data() + i * sizeof(float), sizeof(float));
    values[i] = static_cast<double>(value);
  }
  return values;
}

GoldenArray read_golden(const std::string& path) {
  const std::string file = read_text(path);
  HARRIER_CHECK(file.size() > kHeaderStart, path + " is too short for a .npy file");
  HARRIER_CHECK(file.starts_with("\x93NUMPY\x01"), path + " is no .npy file");
  const size_t header_size = static_cast<uint8_t>(file[8]) + 256U * static_cast<uint8_t>(file[9]);
  const std::string header = file.substr(kHeaderStart, header_size);
  std::smatch parts;
  const std::regex form("'descr': '([^']*)', 'fortran_order': False, 'shape': \\(([0-9, ]*)\\)");
  HARRIER_CHECK(std::regex_search(header, parts, form), path + " has an unexpected header");
  GoldenArray array{.type = type_named(parts[1]), .shape = {}, .bytes = {}};
  const std::string dimensions = parts[2];
  const std::regex number("[0-9]+");
  for (std::sregex_iterator i(dimensions.begin(), dimensions.end(), number); i != std::sregex_iterator(); ++i) {
    array.shape.push_back(std::stoll(i->str()));
  }
  array.bytes.assign(file.begin() + static_cast<std::ptrdiff_t>(kHeaderStart + header_size), file.end());
  HARRIER_CHECK(static_cast<int64_t>(array.bytes.size()) == element_count(array.shape) * bytes_of(array.type),
                path + " is not as long as its shape says");
  return array;
}

std::vector<double> swap_heads_and_length(const std::vector<double>& values, const std::vector<int64_t>& shape) {
  std::vector<double> swapped;
  swapped.reserve(values.size());
  for (int64_t b = 0; b < shape[0]; ++b) {
    for (int64_t token = 0; token < shape[2]; ++token) {
      for (int64_t head = 0; head < shape[1]; ++head) {
        const auto start = values.begin() + ((b * shape[1] + head) * shape[2] + token) * shape[3];
        swapped.insert(swapped.end(), start, start + shape[3]);
      }
    }
  }
  return swapped;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  HARRIER_CHECK(file.good(), path + " cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace harrier
