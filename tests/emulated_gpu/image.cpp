#include "image.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace harrier::emulated {
namespace {

constexpr char kBinaryMark[] = "harrier emulated cubin\n";
constexpr char kTextMark[] = "// harrier emulated ptx ";
constexpr char kDigits[] = "0123456789abcdef";

struct Header {
  char mark[sizeof kBinaryMark];
  char architecture[24];
  std::uint64_t bytes;
};

int digit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

}  // namespace

std::string write_image(const Image& image) {
  if (image.architecture.rfind("compute_", 0) == 0) {
    std::string text = kTextMark + image.architecture + "\n";
    text.reserve(text.size() + 2 * image.library.size() + 1);
    for (const char byte : image.library) {
      text += kDigits[static_cast<unsigned char>(byte) >> 4];
      text += kDigits[byte & 15];
    }
    return text;
  }
  Header header{};
  std::memcpy(header.mark, kBinaryMark, sizeof kBinaryMark);
  image.architecture.copy(header.architecture, sizeof header.architecture - 1);
  header.bytes = image.library.size();
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + image.library;
}

std::optional<Image> read_image(const void* bytes) {
  const auto* text = static_cast<const char*>(bytes);
  if (std::strncmp(text, kBinaryMark, sizeof kBinaryMark) == 0) {
    Header header;
    std::memcpy(&header, bytes, sizeof header);
    return Image{header.architecture, std::string(text + sizeof header, header.bytes)};
  }
  if (std::strncmp(text, kTextMark, sizeof kTextMark - 1) != 0) return std::nullopt;
  const char* name = text + sizeof kTextMark - 1;
  const char* end = std::strchr(name, '\n');
  Image image{std::string(name, end), ""};
  for (const char* c = end + 1; c[0] != '\0' && c[1] != '\0'; c += 2) {
    image.library += static_cast<char>(digit(c[0]) << 4 | digit(c[1]));
  }
  return image;
}

bool runs_on(const std::string& architecture, int major, int minor) {
  const std::size_t underscore = architecture.find('_');
  const int version = std::atoi(architecture.c_str() + underscore + 1);
  const int device = 10 * major + minor;
  if (architecture.back() == 'a') return version == device;
  if (architecture.rfind("compute_", 0) == 0) return version <= device;
  return version / 10 == major && version <= device;
}

}  // namespace harrier::emulated
