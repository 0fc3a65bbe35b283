// SHA-256, which keys and blobs are named by.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace harrier {

/// 64 hexadecimal digits.
std::string sha256_of(std::span<const char> bytes);

/// Of texts in order, each with its length, so that no two lists of texts agree by where they are cut.
std::string sha256_of_texts(std::initializer_list<std::string_view> texts);
std::string sha256_of_texts(std::span<const std::string_view> texts);

}  // namespace harrier
