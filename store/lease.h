// Who does a task just now.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "store/store.h"

namespace harrier {

/// Names this process and this call, so that others can tell whether the process still lives.
std::string new_lease_owner();

/// Whether the process that an owner names has ended. Never true of processes that cannot be seen from here, such as
/// those of other containers.
bool has_ended(std::string_view owner);

enum class LeaseResult {
  kMine,
  kTaken,
  kNoStore,  // nobody can say
};

/// Takes the task where nobody has it, or who has it is gone or past the lease's end.
LeaseResult take_lease(Store& store, std::string_view task, std::string_view owner, int64_t lease_ms);
void release_lease(Store& store, std::string_view task, std::string_view owner);

}  // namespace harrier
