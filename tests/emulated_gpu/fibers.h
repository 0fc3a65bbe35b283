// The threads of one CTA as fibers on the calling thread, and how they wait for each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "device_api.h"

namespace harrier::emulated {

/// What a thread waits for: a format of two numbers and a name, printed only when nothing can go on.
struct Waiting {
  const char* format = nullptr;
  std::uint64_t first = 0;
  std::uint64_t second = 0;
  const char* name = "";
  bool operator==(const Waiting&) const = default;
};

struct Thread;

/// An asynchronous copy or product of one thread; each file that issues some keeps its own kind.
struct ThreadExtension {
  virtual ~ThreadExtension() = default;
  /// What is wrong with a thread that exits now; empty when nothing is.
  virtual std::string unfinished() const = 0;
};

enum Extension { kStores, kCopies, kProducts, kExtensions };

struct Thread {
  void* context = nullptr;
  int number = 0;
  harrier_emulated::Dim index{};
  bool exited = false;
  Waiting waiting;
  std::unique_ptr<ThreadExtension> extensions[kExtensions];

  int lane() const { return number & 31; }
  int warp() const { return number >> 5; }
};

/// CUresult values that a launch ends with.
enum class Outcome {
  kSuccess = 0,
  kIllegalAddress = 700,
  kTimeout = 702,
  kMisaligned = 716,
  kFailed = 719,
};

struct Launch {
  std::string name;
  void (*entry)(void** arguments) = nullptr;
  void** arguments = nullptr;
  harrier_emulated::Dim grid{};
  harrier_emulated::Dim block{};
  std::uint32_t shared_bytes = 0;
};

/// Runs all CTAs: one after the other, or HARRIER_EMULATED_TOGETHER of them side by side, which take turns where all
/// threads of one wait or pause and, in a random order, at any time. What went wrong is said on stderr.
Outcome run_launch(const Launch& launch);

// For what threads call while they run.

Thread& current_thread();
Thread& thread_at(int number);
int thread_count();
int live_threads();

/// Stops this thread until another makes it ready.
void block(const Waiting& waiting);
void make_ready(Thread& thread);

/// Ends the launch; does not return.
[[noreturn]] void fault(Outcome outcome, const std::string& message);

/// The extension of the running thread, made on first use.
template <class Kind>
Kind& extension(Thread& thread, Extension place) {
  auto& slot = thread.extensions[place];
  if (slot == nullptr) slot = std::make_unique<Kind>();
  return static_cast<Kind&>(*slot);
}

/// Asynchronous work of the CTA that ends as late as it may: when no thread can go on without it.
void defer(std::function<void()> work);

/// True half of the time where threads run in a random order, else never.
bool toss();

/// Hooks of the barriers: before a CTA, and when a thread has exited.
void reset_barriers();
void reset_meetings();
void reset_warpgroups();
void thread_left_barriers();

/// What a file knows of a CTA that is not running; each has its own kind.
struct ParkedState {
  virtual ~ParkedState() = default;
};
using Parked = std::unique_ptr<ParkedState>;

/// Exchange what is known of the running CTA for that of another. Null is a CTA that has not begun.
Parked exchange_barriers(Parked other);
Parked exchange_meetings(Parked other);
Parked exchange_warpgroups(Parked other);

// Shared memory. Addresses start at kSharedBase, as the first KiB of an SM's is the system's.

inline constexpr std::uint32_t kSharedBase = 1024;
inline constexpr std::uint32_t kSharedLimit = 227 * 1024;

/// The bytes at an address; a fault when they are not all inside the CTA's shared memory or not aligned.
unsigned char* shared_bytes_at(std::uint32_t address, std::uint32_t bytes, std::uint32_t alignment, const char* what);

}  // namespace harrier::emulated
