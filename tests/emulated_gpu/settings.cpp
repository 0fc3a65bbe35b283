#include "settings.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <thread>

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

constexpr int kCrash = -1;
constexpr int kHang = -2;

int result_of(const std::string& text) {
  if (text.starts_with("crash")) return kCrash;
  return text.starts_with("hang") ? kHang : std::atoi(text.c_str());
}

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
      failures[entry.substr(0, equals)] = {result_of(entry.substr(equals + 1)),
                                           at == std::string::npos ? 1 : std::atol(entry.c_str() + at + 1)};
    }
    begin = end + 1;
  }
  return failures;
}

/// A variable of failures, and how often each was met since it was last changed.
class FailureList {
 public:
  explicit FailureList(const char* variable) : variable_(variable) {}

  int result_of(const std::string& name) {
    const char* text = std::getenv(variable_);
    const std::lock_guard lock(mutex_);
    if (known_ != (text == nullptr ? "" : text)) {
      known_ = text == nullptr ? "" : text;
      failures_ = parse(known_);
      calls_.clear();
    }
    const auto failure = failures_.find(name);
    if (failure == failures_.end()) return 0;
    return ++calls_[name] >= failure->second.first_call ? failure->second.result : 0;
  }

 private:
  const char* variable_;
  std::mutex mutex_;
  std::string known_;
  std::map<std::string, Failure> failures_;
  std::map<std::string, long> calls_;
};

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
int ctas_together() { return number("HARRIER_EMULATED_TOGETHER", 1); }
int multiprocessors() { return number("HARRIER_EMULATED_SMS", 4); }

int injected_failure(const char* function) {
  static FailureList list("HARRIER_EMULATED_FAIL");
  return list.result_of(function);
}

int injected_fault(unsigned shared_bytes) {
  static FailureList list("HARRIER_EMULATED_FAULT");
  const int result = list.result_of(std::to_string(shared_bytes));
  if (result == kCrash) std::abort();
  while (result == kHang) std::this_thread::sleep_for(std::chrono::seconds(1));
  return result;
}

}  // namespace harrier::emulated
