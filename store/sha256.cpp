#include "store/sha256.h"

#include <openssl/evp.h>

#include <array>
#include <memory>

#include "ir/error.h"

namespace harrier {
namespace {

class Digest {
 public:
  Digest() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    HARRIER_CHECK(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1, "SHA-256 is there");
  }

  void add(std::span<const char> bytes) {
    HARRIER_CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1, "SHA-256 takes bytes");
  }

  std::string hex() {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
    unsigned count = 0;
    HARRIER_CHECK(EVP_DigestFinal_ex(context_.get(), bytes.data(), &count) == 1, "SHA-256 ends");
    std::string text;
    for (unsigned i = 0; i < count; ++i) {
      text += kDigits[bytes[i] >> 4];
      text += kDigits[bytes[i] & 15];
    }
    return text;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

std::string sha256_of(std::span<const char> bytes) {
  Digest digest;
  digest.add(bytes);
  return digest.hex();
}

std::string sha256_of_texts(std::span<const std::string_view> texts) {
  Digest digest;
  for (const std::string_view text : texts) {
    digest.add(std::to_string(text.size()));
    digest.add(std::string_view(":"));
    digest.add(text);
  }
  return digest.hex();
}

std::string sha256_of_texts(std::initializer_list<std::string_view> texts) {
  return sha256_of_texts(std::span(texts.begin(), texts.size()));
}

}  // namespace harrier
