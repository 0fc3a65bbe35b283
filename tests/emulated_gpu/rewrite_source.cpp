#include "rewrite_source.h"

#include <fmt/format.h>

#include <cctype>
#include <regex>

namespace harrier::emulated {
namespace {

/// One past the bracket that closes the one at `open`.
std::size_t after_brackets(const std::string& text, std::size_t open) {
  int depth = 0;
  for (std::size_t i = open; i < text.size(); ++i) {
    if (text[i] == '(') ++depth;
    if (text[i] == ')' && --depth == 0) return i + 1;
  }
  return text.size();
}

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

}  // namespace

std::string rewrite_shared_memory(const std::string& source) {
  static const std::regex kDynamic(
      R"(extern\s+__shared__\s+(?:__align__\(\d+\)\s+|alignas\(\d+\)\s+)?([\w:]+(?:\s+\w+)*?)\s+(\w+)\s*\[\s*\]\s*;)");
  return std::regex_replace(source, kDynamic,
                            "$1* const $2 = reinterpret_cast<$1*>(harrier_emulated_shared_memory());");
}

std::string launchers(const std::string& source) {
  static const std::string kBounds = "__launch_bounds__";
  std::string text = "\n";
  std::size_t begin = 0;
  while ((begin = source.find("extern \"C\" __global__", begin)) != std::string::npos) {
    std::size_t open = source.find('(', begin);
    if (open == std::string::npos) break;
    std::string bounds;
    const std::size_t word = source.find(kBounds, begin);
    if (word != std::string::npos && word < open) {
      const std::size_t end = after_brackets(source, open);
      bounds = source.substr(open + 1, end - open - 2);
      open = source.find('(', end);
    }
    std::size_t end = open;
    while (end > begin && !is_word(source[end - 1])) --end;
    std::size_t first = end;
    while (first > begin && is_word(source[first - 1])) --first;
    const std::string name = source.substr(first, end - first);
    text += fmt::format(
        "extern \"C\" void {0}__emulated(void** arguments) {{ harrier_emulated::call(&{0}, arguments); }}\n"
        "extern \"C\" {{ harrier_emulated::KernelFacts {0}__facts = harrier_emulated::facts(&{0}{1}{2}); }}\n",
        name, bounds.empty() ? "" : ", ", bounds);
    begin = open;
  }
  return text;
}

}  // namespace harrier::emulated
