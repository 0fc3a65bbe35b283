#include "fibers.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <boost/context/detail/fcontext.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <random>

#include "settings.h"

#define EXPORT __attribute__((visibility("default")))

extern "C" {
EXPORT harrier_emulated::Dim threadIdx;
EXPORT harrier_emulated::Dim blockIdx;
EXPORT harrier_emulated::Dim blockDim;
EXPORT harrier_emulated::Dim gridDim;
}

namespace harrier::emulated {
namespace {

namespace context = boost::context::detail;

constexpr std::size_t kStackBytes = 256 * 1024;
constexpr std::size_t kStackGuardBytes = 4096;
constexpr int kMaxThreads = 1024;
constexpr std::size_t kTailBytes = 4096;  // behind a CTA's shared memory; nobody may write there
constexpr std::size_t kArenaBytes = kSharedLimit + kTailBytes;
constexpr unsigned char kFill = 0xff;  // not a number in every float type

/// Everything that one launch at a time needs. Kernels know nothing of host threads, so launches take turns.
struct Machine {
  std::mutex turn;
  const Launch* launch = nullptr;
  std::vector<Thread> threads;
  std::deque<int> ready;
  std::deque<int> pausing;  // to look again when nothing else can go on
  int rounds_in_vain = 0;   // since something but a pause has happened, in any CTA
  std::deque<std::function<void()>> deferred;
  int live = 0;
  std::size_t slot = 0;    // of the CTA that runs, among those side by side
  std::size_t others = 0;  // CTAs that it may make room for
  Thread* running = nullptr;
  void* scheduler = nullptr;
  Outcome outcome = Outcome::kSuccess;
  bool shuffled = false;
  std::mt19937 random;
  int lagging = 0;                     // a warpgroup, or one more than there are
  std::vector<unsigned char*> stacks;  // of each slot
  long long clock = 0;
};

/// A CTA that is not running: what Machine, the files of barriers and shared memory hold of the one that is.
struct ParkedCta {
  harrier_emulated::Dim index{};
  std::vector<Thread> threads;
  std::deque<int> ready;
  std::deque<int> pausing;
  std::deque<std::function<void()>> deferred;
  int live = 0;
  std::size_t slot = 0;
  std::vector<unsigned char> shared;
  Parked barriers;
  Parked meetings;
  Parked warpgroups;
};

constexpr const char* kPause = "a pause";

Machine machine;
alignas(1024) unsigned char arena[kArenaBytes];

unsigned char* stack_of(int thread) {
  if (machine.stacks.size() <= machine.slot) machine.stacks.resize(machine.slot + 1);
  unsigned char*& first = machine.stacks[machine.slot];
  if (first == nullptr) {
    const std::size_t bytes = kMaxThreads * (kStackBytes + kStackGuardBytes);
    void* stacks = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED) {
      std::perror("emulated GPU: no memory for the threads' stacks");
      std::abort();
    }
    first = static_cast<unsigned char*>(stacks);
    for (int i = 0; i < kMaxThreads; ++i)
      mprotect(first + i * (kStackBytes + kStackGuardBytes), kStackGuardBytes, PROT_NONE);
  }
  return first + thread * (kStackBytes + kStackGuardBytes) + kStackGuardBytes;
}

/// "0-31, 64, 70-72"
std::string print_numbers(const std::vector<int>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += text.empty() ? "" : ", ";
    text += last == i ? fmt::format("{}", numbers[i]) : fmt::format("{}-{}", numbers[i], numbers[last]);
    i = last + 1;
  }
  return text;
}

void say(const std::string& message) {
  const auto& launch = *machine.launch;
  fmt::print(stderr, "emulated GPU: {}, CTA ({}, {}, {}): {}\n", launch.name, blockIdx.x, blockIdx.y, blockIdx.z,
             message);
  std::fflush(stderr);
}

void report_deadlock() {
  std::vector<std::pair<Waiting, std::vector<int>>> groups;
  std::vector<int> gone;
  for (const Thread& thread : machine.threads) {
    if (thread.exited) {
      gone.push_back(thread.number);
      continue;
    }
    auto group = groups.begin();
    while (group != groups.end() && !(group->first == thread.waiting)) ++group;
    if (group == groups.end()) group = groups.insert(groups.end(), {thread.waiting, {}});
    group->second.push_back(thread.number);
  }
  std::string text = "deadlock";
  for (const auto& [waiting, numbers] : groups) {
    text += fmt::format("\n  {} threads wait at {}: {}", numbers.size(),
                        fmt::format(fmt::runtime(waiting.format), waiting.first, waiting.second, waiting.name),
                        print_numbers(numbers));
  }
  if (!gone.empty()) text += fmt::format("\n  {} threads have exited: {}", gone.size(), print_numbers(gone));
  say(text);
}

/// Leaves the fibers for good; they are abandoned where they stand, which kernels do not notice.
[[noreturn]] void leave() {
  context::jump_fcontext(machine.scheduler, nullptr);
  std::abort();
}

/// Brings a random thread to the front. For a while at a time the threads of one warpgroup wait while others can run.
void shuffle_ready() {
  constexpr int kPicksOfALag = 4096;
  constexpr int kPatience = 16;
  constexpr int kWarpgroup = 128;
  const auto pick = [](std::size_t count) { return machine.random() % count; };
  if (pick(kPicksOfALag) == 0) machine.lagging = static_cast<int>(pick(machine.threads.size() / kWarpgroup + 2));
  std::size_t place = pick(machine.ready.size());
  for (int tries = 0; tries < kPatience && machine.ready[place] / kWarpgroup == machine.lagging; ++tries) {
    place = pick(machine.ready.size());
  }
  std::swap(machine.ready.front(), machine.ready[place]);
}

/// Threads that pause look again, one round for all of them. False where rounds have long changed nothing: each waits
/// for another.
bool end_pauses() {
  constexpr int kRounds = 1000;
  if (machine.pausing.empty() || ++machine.rounds_in_vain > kRounds) return false;
  std::swap(machine.ready, machine.pausing);
  return true;
}

/// True where the CTA makes room for another: where its threads only pause and, in a random order, now and then.
bool makes_room() {
  constexpr int kPicksOfATurn = 1024;
  if (machine.others == 0) return false;
  if (machine.ready.empty()) return machine.deferred.empty() && !machine.pausing.empty();
  return machine.shuffled && machine.random() % kPicksOfATurn == 0;
}

/// The next thread that can run; asynchronous work ends only when there is none, and pauses when that has ended too.
/// Null where the scheduler has to go on: with another CTA, or because nothing of this one is left.
Thread* next_ready() {
  if (makes_room()) return nullptr;
  while (machine.ready.empty() && (!machine.deferred.empty() || end_pauses())) {
    if (!machine.ready.empty()) break;
    machine.rounds_in_vain = 0;
    if (machine.shuffled)
      std::swap(machine.deferred.front(), machine.deferred[machine.random() % machine.deferred.size()]);
    const auto work = std::move(machine.deferred.front());
    machine.deferred.pop_front();
    work();
    if (makes_room()) return nullptr;
  }
  if (machine.ready.empty()) {
    if (machine.live > 0) {
      report_deadlock();
      machine.outcome = Outcome::kTimeout;
    }
    return nullptr;
  }
  if (machine.shuffled) shuffle_ready();
  Thread& next = machine.threads[machine.ready.front()];
  machine.ready.pop_front();
  return &next;
}

/// Lets the next thread run, or the scheduler, while `self` stands here.
context::transfer_t go_on(Thread& self) {
  Thread* const next = next_ready();
  if (next == nullptr) return context::jump_fcontext(machine.scheduler, &self);
  machine.running = next;
  return next == &self ? context::transfer_t{nullptr, nullptr} : context::jump_fcontext(next->context, &self);
}

/// What a fiber does first whenever it comes to run.
void resumed(context::transfer_t from) {
  if (from.data != nullptr) {
    static_cast<Thread*>(from.data)->context = from.fctx;
  } else {
    machine.scheduler = from.fctx;
  }
  threadIdx = machine.running->index;
}

void thread_main(context::transfer_t from) {
  resumed(from);
  machine.launch->entry(machine.launch->arguments);
  Thread& self = *machine.running;
  for (const auto& extension : self.extensions) {
    const std::string unfinished = extension == nullptr ? "" : extension->unfinished();
    if (!unfinished.empty()) fault(Outcome::kFailed, unfinished);
  }
  self.exited = true;
  machine.rounds_in_vain = 0;
  --machine.live;
  thread_left_barriers();
  go_on(self);
  std::abort();
}

void start_threads(const Launch& launch) {
  const int count = static_cast<int>(launch.block.x * launch.block.y * launch.block.z);
  machine.threads.clear();
  machine.threads.resize(count);
  machine.ready.clear();
  machine.deferred.clear();
  machine.pausing.clear();
  machine.live = count;
  for (int i = 0; i < count; ++i) {
    Thread& thread = machine.threads[i];
    thread.number = i;
    thread.index = {i % launch.block.x, i / launch.block.x % launch.block.y, i / (launch.block.x * launch.block.y)};
    thread.context = context::make_fcontext(stack_of(i) + kStackBytes, kStackBytes, thread_main);
    machine.ready.push_back(i);
  }
}

/// Runs the CTA until it makes room for another or has ended.
void run_cta() {
  if (machine.ready.empty() && !end_pauses()) {
    report_deadlock();
    machine.outcome = Outcome::kTimeout;
    return;
  }
  if (machine.shuffled) shuffle_ready();
  machine.running = &machine.threads[machine.ready.front()];
  machine.ready.pop_front();
  const context::transfer_t back = context::jump_fcontext(machine.running->context, nullptr);
  if (back.data != nullptr) static_cast<Thread*>(back.data)->context = back.fctx;
  machine.running = nullptr;
}

void start_cta(const Launch& launch) {
  std::memset(arena, kFill, launch.shared_bytes + kTailBytes);
  reset_barriers();
  reset_meetings();
  reset_warpgroups();
  start_threads(launch);
}

/// What must hold when all threads have exited.
void check_ended(const Launch& launch) {
  if (!machine.deferred.empty()) {
    say(fmt::format("all threads have exited while {} copies are in flight", machine.deferred.size()));
    machine.outcome = Outcome::kFailed;
  }
  for (std::size_t byte = launch.shared_bytes; byte < launch.shared_bytes + kTailBytes; ++byte) {
    if (arena[byte] == kFill) continue;
    say(fmt::format("byte {} of shared memory was written, the launch has {}", byte, launch.shared_bytes));
    machine.outcome = Outcome::kIllegalAddress;
    return;
  }
}

/// Parks the CTA that runs, or goes on with a parked one.
void exchange(const Launch& launch, ParkedCta& cta) {
  std::swap(blockIdx, cta.index);
  std::swap(machine.threads, cta.threads);
  std::swap(machine.ready, cta.ready);
  std::swap(machine.pausing, cta.pausing);
  std::swap(machine.deferred, cta.deferred);
  std::swap(machine.live, cta.live);
  std::swap(machine.slot, cta.slot);
  cta.shared.resize(launch.shared_bytes + kTailBytes, kFill);
  std::swap_ranges(cta.shared.begin(), cta.shared.end(), arena);
  cta.barriers = exchange_barriers(std::move(cta.barriers));
  cta.meetings = exchange_meetings(std::move(cta.meetings));
  cta.warpgroups = exchange_warpgroups(std::move(cta.warpgroups));
}

/// CTA `number` of the launch, in the order in which they start.
harrier_emulated::Dim index_of(const Launch& launch, unsigned number) {
  const auto& grid = launch.grid;
  return {number % grid.x, number / grid.x % grid.y, number / (grid.x * grid.y)};
}

void run_one_after_the_other(const Launch& launch, unsigned count) {
  for (unsigned i = 0; i < count && machine.outcome == Outcome::kSuccess; ++i) {
    blockIdx = index_of(launch, i);
    start_cta(launch);
    run_cta();
    if (machine.outcome == Outcome::kSuccess) check_ended(launch);
  }
}

/// CTAs take turns; one that ends makes room for the next of the launch.
void run_side_by_side(const Launch& launch, unsigned count, unsigned together) {
  std::deque<ParkedCta> parked;
  for (unsigned i = 0; i < together; ++i) {
    machine.slot = i;
    blockIdx = index_of(launch, i);
    start_cta(launch);
    exchange(launch, parked.emplace_back());
  }
  unsigned started = together;
  while (!parked.empty() && machine.outcome == Outcome::kSuccess) {
    if (machine.shuffled) std::swap(parked.front(), parked[machine.random() % parked.size()]);
    ParkedCta cta = std::move(parked.front());
    parked.pop_front();
    exchange(launch, cta);
    machine.others = parked.size();
    run_cta();
    if (machine.outcome == Outcome::kSuccess && machine.live == 0) {
      check_ended(launch);
      if (started == count) continue;
      blockIdx = index_of(launch, started++);
      start_cta(launch);
    }
    exchange(launch, cta);
    parked.push_back(std::move(cta));
  }
  machine.others = 0;
  machine.slot = 0;
}

}  // namespace

Outcome run_launch(const Launch& launch) {
  const std::lock_guard lock(machine.turn);
  machine.launch = &launch;
  machine.outcome = Outcome::kSuccess;
  const char* seed = std::getenv("HARRIER_EMULATED_SEED");
  machine.shuffled = seed != nullptr && *seed != '\0';
  if (machine.shuffled) machine.random.seed(static_cast<unsigned>(std::strtoul(seed, nullptr, 10)));
  blockDim = launch.block;
  gridDim = launch.grid;
  machine.rounds_in_vain = 0;
  const unsigned count = launch.grid.x * launch.grid.y * launch.grid.z;
  const unsigned together = std::min(count, static_cast<unsigned>(std::max(ctas_together(), 1)));
  if (together == 1) {
    run_one_after_the_other(launch, count);
  } else {
    run_side_by_side(launch, count, together);
  }
  return machine.outcome;
}

Thread& current_thread() { return *machine.running; }
Thread& thread_at(int number) { return machine.threads[number]; }
int thread_count() { return static_cast<int>(machine.threads.size()); }
int live_threads() { return machine.live; }

void block(const Waiting& waiting) {
  Thread& self = *machine.running;
  self.waiting = waiting;
  if (waiting.format != kPause) machine.rounds_in_vain = 0;
  const context::transfer_t from = go_on(self);
  if (from.fctx != nullptr) resumed(from);
}

void make_ready(Thread& thread) { machine.ready.push_back(thread.number); }

void fault(Outcome outcome, const std::string& message) {
  say(machine.running == nullptr ? message : fmt::format("thread {}: {}", machine.running->number, message));
  machine.outcome = outcome;
  leave();
}

bool toss() { return machine.shuffled && machine.random() % 2 == 0; }

void defer(std::function<void()> work) { machine.deferred.push_back(std::move(work)); }

unsigned char* shared_bytes_at(std::uint32_t address, std::uint32_t bytes, std::uint32_t alignment, const char* what) {
  const std::uint32_t limit = machine.launch->shared_bytes;
  const std::uint32_t first = address - kSharedBase;
  if (address < kSharedBase || first > limit || bytes > limit - first) {
    fault(Outcome::kIllegalAddress, fmt::format("{}: bytes {} to {} of shared memory, which has {}", what,
                                                static_cast<std::int64_t>(address) - kSharedBase,
                                                static_cast<std::int64_t>(address) - kSharedBase + bytes, limit));
  }
  if (address % alignment != 0) {
    fault(Outcome::kMisaligned, fmt::format("{}: shared byte {} is not a multiple of {}", what, first, alignment));
  }
  return arena + first;
}

}  // namespace harrier::emulated

using namespace harrier::emulated;

extern "C" {

EXPORT unsigned char* harrier_emulated_shared_memory() { return arena; }

EXPORT unsigned harrier_emulated_shared_address(const void* pointer) {
  const auto* byte = static_cast<const unsigned char*>(pointer);
  if (byte < arena || byte >= arena + kArenaBytes) {
    fault(Outcome::kIllegalAddress, "the shared address of something that is not in dynamic shared memory");
  }
  return static_cast<unsigned>(byte - arena) + kSharedBase;
}

EXPORT void* harrier_emulated_shared_pointer(unsigned address) { return shared_bytes_at(address, 1, 1, "a pointer"); }

EXPORT void* harrier_emulated_shared_bytes(unsigned address, unsigned bytes) {
  return shared_bytes_at(address, bytes, bytes, "an access");
}

EXPORT void harrier_emulated_trap(const char* message) { fault(Outcome::kFailed, message); }

EXPORT void harrier_emulated_yield() {
  machine.pausing.push_back(current_thread().number);
  block({kPause});
}

EXPORT long long harrier_emulated_clock() { return machine.clock += 10; }
}
