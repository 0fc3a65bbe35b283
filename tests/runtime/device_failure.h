// What a call throws, as data.
#pragma once

#include <gmock/gmock.h>

#include <algorithm>
#include <optional>
#include <string>

#include "ir/error.h"

namespace harrier::test {

/// A DeviceError: its kind and its one line.
struct Failure {
  std::optional<DeviceFailure> kind;
  std::string message;
};

template <typename Call>
Failure failure_of(Call&& call) {
  try {
    call();
  } catch (const DeviceError& error) {
    return {.kind = error.failure(), .message = error.what()};
  }
  return {.kind = {}, .message = "nothing was thrown"};
}

/// The message of an `ErrorType`, or that there was none.
template <typename ErrorType, typename Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (const ErrorType& error) {
    return error.what();
  }
  return "nothing was thrown";
}

/// One line that ends with a remedy: "the value, the limit: the remedy".
MATCHER(IsOneLineWithARemedy, "is one line with a remedy after a colon") {
  return arg.find('\n') == std::string::npos && arg.rfind(": ") != std::string::npos;
}

}  // namespace harrier::test
