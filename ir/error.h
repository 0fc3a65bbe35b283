// The four kinds of failure. Misses (a cache without the entry, say) are std::optional, never exceptions.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace harrier {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The caller's fault. The message is one line: the value, the limit, the remedy.
class InvalidInput : public Error {
 public:
  using Error::Error;
};

/// LLVM, NVRTC or a driver refused. `log()` holds the tool's own words, which may be many lines.
class ToolchainError : public Error {
 public:
  explicit ToolchainError(const std::string& message, std::string log = {}) : Error(message), log_(std::move(log)) {}
  const std::string& log() const { return log_; }

 private:
  std::string log_;
};

enum class DeviceFailure {
  kNoDriver,
  kNoDevice,
  kDriverTooOld,
  kUnsupported,  // a GPU that no kernel family is for
  kOutOfMemory,
  kBadImage,  // machine code that does not load
  kLaunch,
  kOther,
};

/// The GPU or its driver refused, or there is none. The message is one line and ends with the remedy. The process and
/// later calls stay usable.
class DeviceError : public Error {
 public:
  DeviceError(DeviceFailure failure, const std::string& message) : Error(message), failure_(failure) {}
  DeviceFailure failure() const { return failure_; }

 private:
  DeviceFailure failure_;
};

/// Our bug: raised by HARRIER_CHECK, never by user input.
class InternalError : public Error {
 public:
  using Error::Error;
};

[[noreturn]] inline void raise_internal_error(const char* file, int line, const std::string& sentence) {
  throw InternalError("internal error at " + std::string(file) + ":" + std::to_string(line) + ": " + sentence +
                      "; please report it");
}

}  // namespace harrier

/// States an invariant with a sentence that is false when it breaks.
#define HARRIER_CHECK(condition, sentence)                                             \
  do {                                                                                 \
    if (!(condition)) ::harrier::raise_internal_error(__FILE__, __LINE__, (sentence)); \
  } while (false)
