#include "cli/npy.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>

#include "cli/output_file.h"
#include "ir/error.h"

namespace harrier {
namespace {

static_assert(std::endian::native == std::endian::little, "elements are copied as they lie in the file");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kVersionEnd = 8;         // magic, major, minor
constexpr size_t kLargestPreamble = 12;   // and a header length of four bytes
constexpr size_t kHeaderAlignment = 64;   // NumPy's own
constexpr size_t kLargestHeader = 65536;  // a header of plain arrays is about 100 bytes
constexpr size_t kLargestRank = 32;       // as many dimensions as NumPy 1 could have
constexpr int64_t kLargestDimension = int64_t{1} << 62;

struct TypeName {
  std::string_view code;
  ElementType type;
};

constexpr std::array<TypeName, 13> kTypeNames{{{"|b1", ElementType::kBool},
                                               {"|i1", ElementType::kInt8},
                                               {"|u1", ElementType::kUInt8},
                                               {"<i2", ElementType::kInt16},
                                               {"<u2", ElementType::kUInt16},
                                               {"<i4", ElementType::kInt32},
                                               {"<u4", ElementType::kUInt32},
                                               {"<i8", ElementType::kInt64},
                                               {"<u8", ElementType::kUInt64},
                                               {"<f2", ElementType::kFloat16},
                                               {"<V2", ElementType::kBFloat16},
                                               {"<f4", ElementType::kFloat32},
                                               {"<f8", ElementType::kFloat64}}};

[[noreturn]] void refuse(const std::string& name, const std::string& sentence) {
  throw InvalidInput(fmt::format("{}: {}", name, sentence));
}

/// Header text is the file's own: quote it so that it stays on one line.
std::string quoted(std::string_view text) {
  std::string result = "'";
  for (const char character : text.substr(0, 40)) {
    const auto byte = static_cast<unsigned char>(character);
    result += byte >= 0x20 && byte < 0x7f ? std::string(1, character) : fmt::format("\\x{:02x}", byte);
  }
  return result + (text.size() > 40 ? "...'" : "'");
}

ElementType element_type(std::string_view code, const std::string& name) {
  for (const TypeName& known : kTypeNames) {
    // One-byte types have no byte order, so any mark will do; NumPy writes void types with '|' as well.
    const bool is_orderless = known.code[0] == '|' || known.type == ElementType::kBFloat16;
    const bool is_marked =
        code.size() == 3 && (code[0] == known.code[0] || (is_orderless && (code[0] == '|' || code[0] == '<')));
    if (is_marked && code.substr(1) == known.code.substr(1)) return known.type;
  }
  if (code.starts_with('>')) {
    refuse(name, fmt::format("dtype {} is big-endian: save it as little-endian (array.astype('<{}'))", quoted(code),
                             quoted(code.substr(1)).substr(1, 2)));
  }
  refuse(name, fmt::format("dtype {} is not supported: save as bool, int8 to int64, uint8 to uint64, float16, float32, "
                           "float64, or bfloat16 as '<V2'",
                           quoted(code)));
}

struct Header {
  ElementType type;
  std::vector<int64_t> shape;
};

/// Reads the Python literal {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } with its keys in any order.
class HeaderReader {
 public:
  HeaderReader(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  Header read() {
    std::optional<ElementType> type;
    std::optional<std::vector<int64_t>> shape;
    bool has_order = false;
    expect('{');
    while (!take('}')) {
      const std::string_view key = read_string();
      expect(':');
      if (key == "descr" && !type) {
        if (peek() == '[' || peek() == '(') {
          refuse(name_, "dtype is a record of fields: save one plain array a file");
        }
        type = element_type(read_string(), name_);
      } else if (key == "fortran_order" && !has_order) {
        has_order = true;
        if (read_bool()) refuse(name_, "array is in Fortran order: save numpy.ascontiguousarray(array)");
      } else if (key == "shape" && !shape) {
        shape = read_shape();
      } else {
        malformed(fmt::format("has an unknown or repeated key {}", quoted(key)));
      }
      if (!take(',') && peek() != '}') malformed("lacks a comma");
    }
    skip_space();
    if (at_ != text_.size()) malformed("goes on after its closing brace");
    if (!type || !shape || !has_order) malformed("lacks one of the keys descr, fortran_order, shape");
    return {.type = *type, .shape = std::move(*shape)};
  }

 private:
  [[noreturn]] void malformed(const std::string& how) const {
    refuse(name_, fmt::format(".npy header {} at its byte {}: write the file again with numpy.save", how, at_));
  }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }

  char peek() {
    skip_space();
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  bool take(char wanted) {
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }

  void expect(char wanted) {
    if (!take(wanted)) malformed(fmt::format("lacks a '{}'", wanted));
  }

  std::string_view read_string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') malformed("lacks a quoted name");
    const size_t begin = ++at_;
    while (at_ < text_.size() && text_[at_] != quote) ++at_;
    if (at_ == text_.size()) malformed("has an unclosed quote");
    return text_.substr(begin, at_++ - begin);
  }

  bool read_bool() {
    skip_space();
    for (const std::string_view word : {std::string_view("True"), std::string_view("False")}) {
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += word.size();
      return word == "True";
    }
    malformed("lacks True or False");
  }

  int64_t read_dimension() {
    if (peek() == '-') malformed("has a negative dimension");
    if (std::isdigit(static_cast<unsigned char>(peek())) == 0) malformed("lacks a dimension");
    int64_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      if (value > kLargestDimension / 10) malformed("has a dimension above 2^62");
      value = value * 10 + (text_[at_] - '0');
    }
    return value;
  }

  std::vector<int64_t> read_shape() {
    std::vector<int64_t> shape;
    expect('(');
    while (!take(')')) {
      if (shape.size() == kLargestRank) malformed(fmt::format("has more than {} dimensions", kLargestRank));
      shape.push_back(read_dimension());
      if (!take(',') && (peek() != ')' || shape.size() == 1)) malformed("lacks a comma in its shape");
    }
    return shape;
  }

  std::string_view text_;
  const std::string& name_;
  size_t at_ = 0;
};

struct Preamble {
  size_t header_begin;
  size_t header_size;
};

/// `head` is the file's first kLargestPreamble bytes, or all of a shorter file.
Preamble parse_preamble(std::string_view head, uint64_t file_size, const std::string& name) {
  if (!head.starts_with(kMagic)) {
    refuse(name, fmt::format("not a .npy file (it starts with {}, not '\\x93NUMPY'): write it with numpy.save",
                             quoted(head.substr(0, kMagic.size()))));
  }
  if (head.size() < kVersionEnd + 2) refuse(name, "truncated inside the .npy header: write the file again");
  const int major = static_cast<unsigned char>(head[6]);
  const int minor = static_cast<unsigned char>(head[7]);
  if (major < 1 || major > 3 || minor != 0) {
    refuse(name, fmt::format(".npy version {}.{} is unknown: versions 1.0, 2.0 and 3.0 are read", major, minor));
  }
  const size_t begin = major == 1 ? kVersionEnd + 2 : kVersionEnd + 4;
  if (head.size() < begin) refuse(name, "truncated inside the .npy header: write the file again");
  size_t size = 0;
  for (size_t i = begin; i > kVersionEnd; --i) size = size << 8 | static_cast<unsigned char>(head[i - 1]);
  if (size > kLargestHeader) {
    refuse(name, fmt::format(".npy header of {} bytes is longer than {}: save a plain array", size, kLargestHeader));
  }
  if (size > file_size - begin) {
    refuse(name, fmt::format("truncated: the header needs {} bytes, the file has {}: write the file again",
                             begin + size, file_size));
  }
  return {.header_begin = begin, .header_size = size};
}

Header parse_header(std::string_view text, const std::string& name) {
  const bool is_ascii =
      std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (!is_ascii) refuse(name, ".npy header is not ASCII: save a plain array, without field names");
  return HeaderReader(text, name).read();
}

/// Bytes of the elements, having checked that the file holds just them.
size_t checked_data_size(const Header& header, uint64_t available, const std::string& name) {
  int64_t count = 0;
  try {
    count = element_count(header.shape);
  } catch (const InvalidInput&) {
    refuse(name,
           fmt::format("shape ({}) has more than 2^62 elements: write the file again", fmt::join(header.shape, ", ")));
  }
  const auto element = static_cast<uint64_t>(bytes_of(header.type));
  const auto elements = static_cast<uint64_t>(count);
  if (elements > available / element) {
    refuse(name, fmt::format("truncated: shape ({}) of {} needs {} x {} bytes, the file holds {}: write the file again",
                             fmt::join(header.shape, ", "), name_of(header.type), elements, element, available));
  }
  if (elements * element != available) {
    refuse(name, fmt::format("{} bytes too long for shape ({}) of {}: write one array a file",
                             available - elements * element, fmt::join(header.shape, ", "), name_of(header.type)));
  }
  return static_cast<size_t>(available);
}

}  // namespace

NpyArray read_npy(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) refuse(path, "no such file: check the path");
  if (!std::filesystem::is_regular_file(status)) refuse(path, "not a regular file: name a .npy file");
  std::ifstream file(path, std::ios::binary);
  const uint64_t size = std::filesystem::file_size(path, error);
  if (!file || error) refuse(path, "cannot be read: check its permissions");
  const auto read_exactly = [&](char* into, size_t bytes) {
    file.read(into, static_cast<std::streamsize>(bytes));
    if (!file) refuse(path, "cannot be read to its end: it shrank, or the disk failed");
  };

  std::string head(std::min<uint64_t>(size, kLargestPreamble), '\0');
  read_exactly(head.data(), head.size());
  const Preamble preamble = parse_preamble(head, size, path);
  std::string text(preamble.header_size, '\0');
  file.seekg(static_cast<std::streamoff>(preamble.header_begin));
  read_exactly(text.data(), text.size());
  Header header = parse_header(text, path);
  const size_t data_size = checked_data_size(header, size - preamble.header_begin - preamble.header_size, path);
  NpyArray array{.type = header.type, .shape = std::move(header.shape), .bytes = std::vector<std::byte>(data_size)};
  read_exactly(reinterpret_cast<char*>(array.bytes.data()), data_size);
  return array;
}

NpyArray read_npy_bytes(std::span<const std::byte> file, const std::string& name) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  const Preamble preamble = parse_preamble(text.substr(0, kLargestPreamble), text.size(), name);
  Header header = parse_header(text.substr(preamble.header_begin, preamble.header_size), name);
  const std::span<const std::byte> data = file.subspan(preamble.header_begin + preamble.header_size);
  checked_data_size(header, data.size(), name);
  return {.type = header.type, .shape = std::move(header.shape), .bytes = {data.begin(), data.end()}};
}

std::string npy_header(ElementType type, const std::vector<int64_t>& shape) {
  const auto* known =
      std::find_if(kTypeNames.begin(), kTypeNames.end(), [&](const TypeName& t) { return t.type == type; });
  HARRIER_CHECK(known != kTypeNames.end(), "every element type has a .npy name");
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", known->code,
                                   fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  const size_t unpadded = kVersionEnd + 2 + header.size() + 1;
  header.append((kHeaderAlignment - unpadded % kHeaderAlignment) % kHeaderAlignment, ' ');
  header += '\n';
  HARRIER_CHECK(header.size() < kLargestHeader, "a header of at most 32 dimensions fits version 1.0");
  std::string result(kMagic);
  result += {'\x01', '\x00', static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  return result + header;
}

void write_npy(const std::string& path, const ArrayView& array) {
  const std::string header = npy_header(array.type, array.shape);
  OutputFile file(path);
  file.write(header.data(), header.size());
  file.write(array.data, static_cast<size_t>(element_count(array.shape) * bytes_of(array.type)));
  file.commit();
}

}  // namespace harrier
