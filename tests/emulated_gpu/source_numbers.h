// Numbers of a kernel's source, and of orders that tests fill by hand.
#pragma once

#include <regex>
#include <stdexcept>
#include <string>

namespace harrier::test {

/// A limit that no row's tiles reach.
inline constexpr int kAll = 0x7fffffff;

/// The number that the first group of `pattern` finds.
inline int number(const std::string& text, const std::string& pattern) {
  std::smatch match;
  if (!std::regex_search(text, match, std::regex(pattern))) throw std::runtime_error("a source without " + pattern);
  return std::stoi(match[1]);
}

}  // namespace harrier::test
