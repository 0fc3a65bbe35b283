// What must happen around a fork.
//
// SQLite's locks belong to a process and its notes of them to memory: a child has the notes without the locks, and even
// a connection that it opens itself trusts them. So connections are closed before a fork and opened again, on both
// sides, when they are next asked for.
#pragma once

#include <functional>
#include <memory>

namespace harrier {

struct ForkSteps {
  std::function<void()> before;  // must leave no connection open, and none be opened until `after`
  std::function<void()> after;   // in parent and child
};

/// The steps are taken around forks as long as the returned value lives. (vfork and posix_spawn, whose children run
/// nothing of ours, take no steps.)
std::shared_ptr<const void> guard_forks(ForkSteps steps);

}  // namespace harrier
