#include "settings.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

namespace harrier::emulated {
namespace {

int number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == '\0' ? otherwise : std::atoi(text);
}

struct Failure {
  int result;
  long first_call;
};

/// "cuMemAlloc_v2=2@3,cuInit=100"
std::map<std::string, Failure> parse(const std::string& text) {
  std::map<std::string, Failure> failures;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string entry = text.substr(begin, end - begin);
    const std::size_t equals = entry.find('=');
    if (equals != std::string::npos) {
      const std::size_t at = entry.find('@', equals);
      failures[entry.substr(0, equals)] = {std::atoi(entry.c_str() + equals + 1),
                                           at == std::string::npos ? 1 : std::atol(entry.c_str() + at + 1)};
    }
    begin = end + 1;
  }
  return failures;
}

}  // namespace

Capability capability() {
  const char* text = std::getenv("HARRIER_EMULATED_CAPABILITY");
  if (text == nullptr || *text == '\0') return {9, 0};
  const char* dot = text;
  while (*dot != '\0' && *dot != '.') ++dot;
  return {std::atoi(text), *dot == '.' ? std::atoi(dot + 1) : 0};
}

int driver_version() { return number("HARRIER_EMULATED_DRIVER", 13000); }
int device_count() { return number("HARRIER_EMULATED_DEVICES", 1); }
int multiprocessors() { return number("HARRIER_EMULATED_SMS", 4); }

int injected_failure(const char* function) {
  static std::mutex mutex;
  static std::string known;
  static std::map<std::string, Failure> failures;
  static std::map<std::string, long> calls;
  const char* text = std::getenv("HARRIER_EMULATED_FAIL");
  const std::lock_guard lock(mutex);
  if (known != (text == nullptr ? "" : text)) {
    known = text == nullptr ? "" : text;
    failures = parse(known);
    calls.clear();
  }
  const auto failure = failures.find(function);
  if (failure == failures.end()) return 0;
  return ++calls[function] >= failure->second.first_call ? failure->second.result : 0;
}

}  // namespace harrier::emulated
