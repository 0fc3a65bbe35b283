#include "store/fork_guard.h"

#include <pthread.h>

#include <list>
#include <mutex>

namespace harrier {
namespace {

/// Handlers of forks are registered for good and take no argument, hence one list for the process.
struct Guarded {
  std::mutex mutex;
  std::list<ForkSteps> steps;
};

Guarded& guarded() {
  // Never destroyed: forks may come while the process ends.
  static auto* const kAll = new Guarded;
  return *kAll;
}

void before_fork() {
  guarded().mutex.lock();
  for (const ForkSteps& steps : guarded().steps) steps.before();
}

void after_fork() {
  for (const ForkSteps& steps : guarded().steps) steps.after();
  guarded().mutex.unlock();
}

}  // namespace

std::shared_ptr<const void> guard_forks(ForkSteps steps) {
  static const int kRegistered = pthread_atfork(before_fork, after_fork, after_fork);
  static_cast<void>(kRegistered);
  Guarded& all = guarded();
  const std::lock_guard lock(all.mutex);
  const auto place = all.steps.insert(all.steps.end(), std::move(steps));
  return {&*place, [place](const void*) {
            const std::lock_guard unlock(guarded().mutex);
            guarded().steps.erase(place);
          }};
}

}  // namespace harrier
