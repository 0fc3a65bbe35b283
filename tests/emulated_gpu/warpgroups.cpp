// wgmma: products of a warpgroup run when it waits for them, or, where threads run in a random order, now and then as
// soon as they are committed. Until the wait accumulators hold NaN; shared memory that is overwritten too early, or
// written too late, gives wrong results. All four warps must come to a wait, which hardware does not ask.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "fibers.h"
#include "number_formats.h"
#include "products.h"
#include "tensor_map.h"

#define EXPORT __attribute__((visibility("default")))

namespace harrier::emulated {
namespace {

constexpr int kThreads = 128;
constexpr int kDepth = 16;
constexpr std::uint32_t kPoison = 0x7fc0dead;

/// One thread's part of m64nNk16.
struct Product {
  float* d;
  int n;
  bool bfloat16;
  bool accumulate;
  bool from_registers;  // a; else the shared memory that `a_descriptor` describes
  bool b_n_major;
  std::uint32_t a[4];
  std::uint64_t a_descriptor;
  std::uint64_t b_descriptor;

  bool same_instruction(const Product& other) const {
    return n == other.n && bfloat16 == other.bfloat16 && accumulate == other.accumulate &&
           from_registers == other.from_registers && b_n_major == other.b_n_major &&
           a_descriptor == other.a_descriptor && b_descriptor == other.b_descriptor;
  }
};

/// Accumulators in flight: their values, while the kernel's own hold the poison.
struct Accumulators {
  float* d;
  int unfinished;
  std::vector<float> values;
};

struct Products : ThreadExtension {
  std::vector<Product> issued;
  std::vector<std::size_t> groups;  // ends in `issued`
  std::vector<Accumulators> accumulators;
  std::size_t due = 0;  // of the groups, for the wait that the thread is in
  std::size_t run = 0;  // of `issued`, computed before the wait

  Accumulators& of(const float* d) {
    return *std::find_if(accumulators.begin(), accumulators.end(), [&](const auto& a) { return a.d == d; });
  }
  std::string unfinished() const override {
    return issued.empty() ? "" : fmt::format("exits while {} warpgroup products are in flight", issued.size());
  }
};

struct Warpgroup {
  std::vector<Thread*> waiting;
  int pending = 0;
};

Warpgroup warpgroups[8];

Products& products_of(Thread& thread) { return extension<Products>(thread, kProducts); }

/// A descriptor of a matrix in shared memory.
struct Layout {
  std::uint32_t start;
  std::uint32_t leading;
  std::uint32_t stride;
  Swizzle swizzle;
};

Layout decode(std::uint64_t descriptor) {
  static constexpr Swizzle kModes[4] = {Swizzle::kNone, Swizzle::k128, Swizzle::k64, Swizzle::k32};
  const auto field = [&](int shift) { return static_cast<std::uint32_t>(descriptor >> shift & 0x3fff) << 4; };
  if ((descriptor >> 49 & 7) != 0) fault(Outcome::kFailed, "wgmma: descriptors with a base offset are not emulated");
  return {field(0), field(16), field(32), kModes[descriptor >> 62]};
}

std::uint32_t swizzle_bytes(Swizzle swizzle) {
  return swizzle == Swizzle::k128 ? 128 : swizzle == Swizzle::k64 ? 64 : swizzle == Swizzle::k32 ? 32 : 16;
}

/// Eight values that lie side by side, as floats `step` apart.
void read_chunk(const Layout& layout, std::uint32_t address, bool bfloat16, float* to, int step) {
  std::uint16_t values[8];
  std::memcpy(values, shared_bytes_at(swizzled(layout.swizzle, address), 16, 16, "wgmma"), 16);
  for (int i = 0; i < 8; ++i) to[i * step] = harrier_emulated::from_16_bits(values[i], bfloat16);
}

/// Rows of a or columns of b (`count` of them) whose 16 values of k lie side by side. Value k of line i goes to
/// to[i * line_step + k * k_step].
void read_k_major(const Layout& layout, int count, bool bfloat16, float* to, int line_step, int k_step) {
  const std::uint32_t pitch = swizzle_bytes(layout.swizzle);
  // Without a swizzle the two halves of k are `leading` apart.
  const std::uint32_t next_half = layout.swizzle == Swizzle::kNone ? layout.leading : 16;
  for (int line = 0; line < count; ++line) {
    const std::uint32_t address = layout.start + line / 8 * layout.stride + line % 8 * pitch;
    read_chunk(layout, address, bfloat16, to + line * line_step, k_step);
    read_chunk(layout, address + next_half, bfloat16, to + line * line_step + 8 * k_step, k_step);
  }
}

/// b with its columns side by side: b[16][n].
void read_n_major(const Layout& layout, int n, bool bfloat16, float* b) {
  const int span = static_cast<int>(swizzle_bytes(layout.swizzle)) / 2;
  const bool plain = layout.swizzle == Swizzle::kNone;
  const std::uint32_t across = plain ? layout.stride : layout.leading;
  const std::uint32_t down = plain ? layout.leading : layout.stride;
  for (int k = 0; k < kDepth; ++k) {
    for (int column = 0; column < n; column += 8) {
      const std::uint32_t address =
          layout.start + column / span * across + k / 8 * down + k % 8 * (2 * span) + column % span * 2;
      read_chunk(layout, address, bfloat16, b + k * n + column, 1);
    }
  }
}

/// Element i of a thread's part of a 64-row tile: its row and column.
int row_of(int thread, int i) { return thread / 32 * 16 + thread % 32 / 4 + 8 * (i / 2 % 2); }
int column_of(int thread, int i) { return i / 4 * 8 + 2 * (thread % 4) + i % 2; }

/// Products [begin, end) of all threads, which go to the same accumulators, one after the other.
void run_chain(int first_thread, std::size_t begin, std::size_t end) {
  const Product& leader = products_of(thread_at(first_thread)).issued[begin];
  const int n = leader.n;
  const int depth = static_cast<int>(end - begin) * kDepth;
  static std::vector<float> a, b, c;
  a.assign(static_cast<std::size_t>(kProductRows) * depth, 0.0f);
  b.assign(static_cast<std::size_t>(depth) * n, 0.0f);
  c.assign(static_cast<std::size_t>(kProductRows) * n, 0.0f);
  for (std::size_t index = begin; index < end; ++index) {
    const int first_k = static_cast<int>(index - begin) * kDepth;
    const Product& product = products_of(thread_at(first_thread)).issued[index];
    const Layout layout = decode(product.b_descriptor);
    float* b_part = b.data() + static_cast<std::ptrdiff_t>(first_k) * n;
    if (product.b_n_major) {
      read_n_major(layout, n, product.bfloat16, b_part);
    } else {
      read_k_major(layout, n, product.bfloat16, b_part, 1, n);
    }
    if (!product.from_registers) {
      read_k_major(decode(product.a_descriptor), kProductRows, product.bfloat16, a.data() + first_k, depth, 1);
      continue;
    }
    for (int thread = 0; thread < kThreads; ++thread) {
      const Product& mine = products_of(thread_at(first_thread + thread)).issued[index];
      for (int i = 0; i < 8; ++i) {
        const auto value = static_cast<unsigned short>(mine.a[i / 2] >> (16 * (i % 2)));
        a[row_of(thread, i) * depth + first_k + column_of(thread, i)] =
            harrier_emulated::from_16_bits(value, product.bfloat16);
      }
    }
  }
  for (int thread = 0; thread < kThreads; ++thread) {
    Products& mine = products_of(thread_at(first_thread + thread));
    const Accumulators& accumulators = mine.of(mine.issued[begin].d);
    if (!leader.accumulate) continue;
    for (int i = 0; i < n / 2; ++i) c[row_of(thread, i) * n + column_of(thread, i)] = accumulators.values[i];
  }
  multiply_add(c.data(), a.data(), b.data(), n, depth);
  for (int thread = 0; thread < kThreads; ++thread) {
    Products& mine = products_of(thread_at(first_thread + thread));
    Accumulators& accumulators = mine.of(mine.issued[begin].d);
    for (int i = 0; i < n / 2; ++i) accumulators.values[i] = c[row_of(thread, i) * n + column_of(thread, i)];
  }
}

/// Puts finished accumulators into the kernel's variables.
void deliver(Products& mine, std::size_t done) {
  for (std::size_t i = 0; i < done; ++i) --mine.of(mine.issued[i].d).unfinished;
  for (Accumulators& accumulators : mine.accumulators) {
    if (accumulators.unfinished > 0) continue;
    for (std::size_t i = 0; i < accumulators.values.size(); ++i) {
      std::uint32_t bits;
      std::memcpy(&bits, accumulators.d + i, 4);
      if (bits != kPoison) fault(Outcome::kFailed, "accumulators of a product in flight were written");
      accumulators.d[i] = accumulators.values[i];
    }
  }
  std::erase_if(mine.accumulators, [](const auto& a) { return a.unfinished == 0; });
  mine.issued.erase(mine.issued.begin(), mine.issued.begin() + static_cast<std::ptrdiff_t>(done));
  mine.groups.erase(mine.groups.begin(), mine.groups.begin() + static_cast<std::ptrdiff_t>(mine.due));
  for (std::size_t& end : mine.groups) end -= done;
}

/// Computes the first `done` products of a warpgroup, which all its threads have issued.
void run_products(int first_thread, std::size_t done) {
  Products& leader = products_of(thread_at(first_thread));
  for (int thread = 1; thread < kThreads; ++thread) {
    Products& mine = products_of(thread_at(first_thread + thread));
    bool same = mine.issued.size() >= done;
    for (std::size_t i = 0; same && i < done; ++i) same = mine.issued[i].same_instruction(leader.issued[i]);
    if (!same) {
      fault(Outcome::kFailed, fmt::format("threads {} and {} of a warpgroup have issued different products",
                                          first_thread, first_thread + thread));
    }
  }
  for (std::size_t begin = leader.run; begin < done;) {
    std::size_t end = begin + 1;
    while (end < done && leader.issued[end].d == leader.issued[begin].d && leader.issued[end].accumulate &&
           leader.issued[end].bfloat16 == leader.issued[begin].bfloat16) {
      ++end;
    }
    run_chain(first_thread, begin, end);
    begin = end;
  }
  leader.run = std::max(leader.run, done);
}

/// All threads of the warpgroup have come to the same wait.
void run_due(int first_thread) {
  Products& leader = products_of(thread_at(first_thread));
  const std::size_t done = leader.due == 0 ? 0 : leader.groups[leader.due - 1];
  for (int thread = 1; thread < kThreads; ++thread) {
    if (products_of(thread_at(first_thread + thread)).due == leader.due) continue;
    fault(Outcome::kFailed, fmt::format("threads {} and {} of a warpgroup wait for different products", first_thread,
                                        first_thread + thread));
  }
  run_products(first_thread, done);
  leader.run -= done;
  for (int thread = 0; thread < kThreads; ++thread) deliver(products_of(thread_at(first_thread + thread)), done);
}

/// Computes what all threads of the warpgroup have committed.
void run_committed(int first_thread) {
  std::size_t groups = products_of(thread_at(first_thread)).groups.size();
  for (int thread = 1; thread < kThreads; ++thread) {
    groups = std::min(groups, products_of(thread_at(first_thread + thread)).groups.size());
  }
  if (groups > 0) run_products(first_thread, products_of(thread_at(first_thread)).groups[groups - 1]);
}

void issue(const Product& product) {
  if (product.n % 8 != 0 || product.n < 8 || product.n > 256) {
    fault(Outcome::kFailed, fmt::format("wgmma with n = {}", product.n));
  }
  if (current_thread().number / kThreads * kThreads + kThreads > thread_count()) {
    fault(Outcome::kFailed, "wgmma by a warpgroup that is not whole");
  }
  Products& mine = products_of(current_thread());
  auto place = std::find_if(mine.accumulators.begin(), mine.accumulators.end(),
                            [&](const Accumulators& a) { return a.d == product.d; });
  if (place == mine.accumulators.end()) {
    mine.accumulators.push_back({product.d, 0, std::vector<float>(product.d, product.d + product.n / 2)});
    place = mine.accumulators.end() - 1;
    for (int i = 0; i < product.n / 2; ++i) std::memcpy(product.d + i, &kPoison, 4);
  }
  ++place->unfinished;
  mine.issued.push_back(product);
}

}  // namespace

void reset_warpgroups() {
  for (Warpgroup& warpgroup : warpgroups) warpgroup.waiting.clear();
}

Parked exchange_warpgroups(Parked other) {
  struct State : ParkedState {
    Warpgroup warpgroups[std::size(emulated::warpgroups)];
  };
  if (other == nullptr) other = std::make_unique<State>();
  std::swap(warpgroups, static_cast<State&>(*other).warpgroups);
  return other;
}

}  // namespace harrier::emulated

using namespace harrier::emulated;

extern "C" {

EXPORT void harrier_emulated_product_shared(float* d, int n, bool bfloat16, unsigned long long a, unsigned long long b,
                                            bool b_n_major, bool accumulate) {
  issue({d, n, bfloat16, accumulate, false, b_n_major, {}, a, b});
}

EXPORT void harrier_emulated_product_register(float* d, int n, bool bfloat16, const unsigned* a, unsigned long long b,
                                              bool accumulate) {
  issue({d, n, bfloat16, accumulate, true, true, {a[0], a[1], a[2], a[3]}, 0, b});
}

EXPORT void harrier_emulated_commit_products() {
  Products& mine = products_of(current_thread());
  mine.groups.push_back(mine.issued.size());
  if (toss()) run_committed(current_thread().number / kThreads * kThreads);
}

EXPORT void harrier_emulated_wait_products(int pending) {
  Thread& self = current_thread();
  Products& mine = products_of(self);
  if (mine.groups.size() <= static_cast<std::size_t>(pending)) return;
  mine.due = mine.groups.size() - static_cast<std::size_t>(pending);
  Warpgroup& warpgroup = warpgroups[self.number / kThreads];
  warpgroup.waiting.push_back(&self);
  if (warpgroup.waiting.size() < kThreads) {
    block({"wgmma.wait_group {} of warpgroup {}", static_cast<std::uint64_t>(pending),
           static_cast<std::uint64_t>(self.number / kThreads)});
    return;
  }
  run_due(self.number / kThreads * kThreads);
  for (Thread* thread : warpgroup.waiting) {
    if (thread != &self) make_ready(*thread);
  }
  warpgroup.waiting.clear();
}
}
