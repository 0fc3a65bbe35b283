// Barriers of a CTA: __syncthreads, named barriers, and transaction barriers in shared memory.
#include <fmt/format.h>

#include <cstring>

#include "fibers.h"

#define EXPORT __attribute__((visibility("default")))

namespace harrier::emulated {
namespace {

constexpr int kNamedBarriers = 16;

struct NamedBarrier {
  int arrived = 0;
  int threads = 0;  // that it waits for; 0 = the live threads of the CTA
  int predicates = 0;
  int last_predicates = 0;
  const char* name = nullptr;
  std::vector<Thread*> waiting;
};

/// A transaction barrier. What it knows lies here; shared memory holds a mark, so that overwriting it is seen.
struct TransactionBarrier {
  bool initialised = false;
  std::uint32_t arrivals = 0;  // of every phase
  std::uint32_t missing = 0;   // in this phase
  std::int64_t bytes = 0;      // announced and not yet brought
  std::uint32_t phase = 0;
  std::vector<Thread*> waiting;
};

constexpr std::uint64_t kMark = 0x6d62617272696572ull;

NamedBarrier named[kNamedBarriers];
std::vector<TransactionBarrier> transaction(kSharedLimit / 8);
std::vector<std::uint32_t> in_use;

void release(std::vector<Thread*>& threads) {
  for (Thread* thread : threads) make_ready(*thread);
  threads.clear();
}

void complete_if_all_arrived(NamedBarrier& barrier) {
  const int wanted = barrier.threads == 0 ? live_threads() : barrier.threads;
  if (barrier.arrived == 0 || barrier.arrived < wanted) return;
  barrier.last_predicates = barrier.predicates;
  barrier.arrived = barrier.predicates = 0;
  barrier.name = nullptr;
  release(barrier.waiting);
}

/// `waits` = false for an arrival alone.
void arrive_named(int id, int threads, const char* name, bool waits, bool predicate) {
  if (id < 0 || id >= kNamedBarriers) fault(Outcome::kFailed, fmt::format("barrier {}, there are 16", id));
  if (threads % 32 != 0 || threads < 0 || threads > thread_count()) {
    fault(Outcome::kFailed,
          fmt::format("barrier {} of {} threads: whole warps of the CTA's {} are needed", id, threads, thread_count()));
  }
  NamedBarrier& barrier = named[id];
  if (barrier.arrived > 0 && (barrier.threads != threads || std::strcmp(barrier.name, name) != 0)) {
    fault(Outcome::kFailed, fmt::format("barrier {}: {} of {} threads, but others came with {} of {}", id, name,
                                        threads, barrier.name, barrier.threads));
  }
  barrier.threads = threads;
  barrier.name = name;
  ++barrier.arrived;
  barrier.predicates += predicate ? 1 : 0;
  Thread& self = current_thread();
  if (waits) barrier.waiting.push_back(&self);
  complete_if_all_arrived(barrier);
  if (!waits) return;
  if (threads == 0) {
    block({id == 0 ? "__syncthreads (barrier {})" : "barrier {}", static_cast<std::uint64_t>(id)});
  } else {
    block({"named barrier {} of {} threads", static_cast<std::uint64_t>(id), static_cast<std::uint64_t>(threads)});
  }
}

TransactionBarrier& barrier_at(std::uint32_t address, const char* what) {
  std::uint64_t mark;
  std::memcpy(&mark, shared_bytes_at(address, 8, 8, what), 8);
  TransactionBarrier& barrier = transaction[(address - kSharedBase) / 8];
  if (!barrier.initialised) {
    fault(Outcome::kFailed,
          fmt::format("{}: the barrier at shared byte {} is not initialised", what, address - kSharedBase));
  }
  if (mark != kMark) {
    fault(Outcome::kFailed,
          fmt::format("{}: the barrier at shared byte {} was overwritten", what, address - kSharedBase));
  }
  return barrier;
}

void complete_if_done(TransactionBarrier& barrier) {
  if (barrier.missing > 0 || barrier.bytes != 0) return;
  ++barrier.phase;
  barrier.missing = barrier.arrivals;
  release(barrier.waiting);
}

void arrive(TransactionBarrier& barrier, std::uint32_t address, const char* what) {
  if (barrier.missing == 0) {
    fault(Outcome::kFailed, fmt::format("{}: phase {} of the barrier at shared byte {} already has its {} arrivals",
                                        what, barrier.phase, address - kSharedBase, barrier.arrivals));
  }
  --barrier.missing;
  complete_if_done(barrier);
}

}  // namespace

void reset_barriers() {
  for (NamedBarrier& barrier : named) barrier = {};
  for (const std::uint32_t index : in_use) transaction[index] = {};
  in_use.clear();
}

Parked exchange_barriers(Parked other) {
  struct State : ParkedState {
    NamedBarrier named[kNamedBarriers];
    std::vector<TransactionBarrier> transaction = std::vector<TransactionBarrier>(kSharedLimit / 8);
    std::vector<std::uint32_t> in_use;
  };
  if (other == nullptr) other = std::make_unique<State>();
  auto& state = static_cast<State&>(*other);
  std::swap(named, state.named);
  std::swap(transaction, state.transaction);
  std::swap(in_use, state.in_use);
  return other;
}

void thread_left_barriers() {
  for (NamedBarrier& barrier : named) {
    if (barrier.threads == 0) complete_if_all_arrived(barrier);
  }
}

void bring_bytes(std::uint32_t address, std::uint32_t bytes) {
  TransactionBarrier& barrier = barrier_at(address, "a copy's bytes");
  barrier.bytes -= bytes;
  complete_if_done(barrier);
}

void check_barrier(std::uint32_t address, const char* what) { barrier_at(address, what); }

}  // namespace harrier::emulated

using namespace harrier::emulated;

extern "C" {

EXPORT unsigned harrier_emulated_sync_threads(const char* name, int predicate) {
  arrive_named(0, 0, name, true, predicate != 0);
  return static_cast<unsigned>(named[0].last_predicates);
}

EXPORT void harrier_emulated_named_barrier(int id, int threads, bool wait) {
  arrive_named(id, threads, "a named barrier", wait, false);
}

EXPORT void harrier_emulated_barrier_init(unsigned address, unsigned arrivals) {
  std::memcpy(shared_bytes_at(address, 8, 8, "mbarrier.init"), &kMark, 8);
  TransactionBarrier& barrier = transaction[(address - kSharedBase) / 8];
  if (barrier.initialised) {
    fault(Outcome::kFailed, fmt::format("the barrier at shared byte {} is initialised twice", address - kSharedBase));
  }
  if (arrivals == 0) {
    fault(Outcome::kFailed, fmt::format("the barrier at shared byte {} wants no arrivals", address - kSharedBase));
  }
  barrier.initialised = true;
  barrier.arrivals = barrier.missing = arrivals;
  in_use.push_back((address - kSharedBase) / 8);
}

EXPORT void harrier_emulated_barrier_expect(unsigned address, unsigned bytes) {
  TransactionBarrier& barrier = barrier_at(address, "mbarrier.arrive.expect_tx");
  barrier.bytes += bytes;
  if (barrier.bytes >= 1 << 20) {
    fault(Outcome::kFailed, fmt::format("the barrier at shared byte {} expects {} bytes, the limit is 2^20 - 1",
                                        address - kSharedBase, barrier.bytes));
  }
  arrive(barrier, address, "mbarrier.arrive.expect_tx");
}

EXPORT void harrier_emulated_barrier_arrive(unsigned address) {
  arrive(barrier_at(address, "mbarrier.arrive"), address, "mbarrier.arrive");
}

EXPORT void harrier_emulated_barrier_wait(unsigned address, unsigned parity) {
  TransactionBarrier& barrier = barrier_at(address, "mbarrier.try_wait");
  if (parity > 1) fault(Outcome::kFailed, fmt::format("mbarrier.try_wait for parity {}", parity));
  while ((barrier.phase & 1) == parity) {
    barrier.waiting.push_back(&current_thread());
    block({"the transaction barrier at shared byte {} for parity {}", address - kSharedBase, parity});
  }
}
}
