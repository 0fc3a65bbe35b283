// The mask language: which keys each query sees, and how often.
//
// Semantics, once, before the nodes (DESIGN section 4 in code):
//  * A mask maps (b, h, q, k) to a multiplicity: 0 = hidden, 1 = visible, n > 1 = the key counts n times in the
//  softmax,
//    as if it stood n times in the list of keys. Only block lists marked `counted` and bigbird give more than 1.
//  * `a & b` multiplies multiplicities, `a | b` takes the larger one, `~a` is 1 where a is 0, else 0. Without counted
//  atoms
//    these are the usual and, or, not.
//  * b, h: batch row and query head. q, k: positions inside the own sequence, from 0; q < q_len, k < kv_len (the
//  extents).
//  * q' = q + (kv_len - q_len) is the query's position among the keys (bottom-right alignment). Atoms that compare
//    positions of queries with positions of keys use q': causal, window, dilated, global, documents. Block tables and
//    bit masks are indexed by q itself.
//  * A negative q' is a legal position before all keys: it is no global token and in no document.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "ir/box.h"
#include "ir/expression.h"

namespace harrier {

/// `inf` in window(...) and dilated(...): no limit on that side.
inline constexpr int64_t kUnbounded = std::numeric_limits<int64_t>::max();

struct Mask;

/// Every pair.
struct All {
  bool operator==(const All&) const = default;
};

/// No pair.
struct None {
  bool operator==(const None&) const = default;
};

/// k <= q'
struct Causal {
  bool operator==(const Causal&) const = default;
};

/// -left <= k - q' <= right, both inclusive; either may be kUnbounded.
struct Window {
  int64_t left;
  int64_t right;
  bool operator==(const Window&) const = default;
};

/// Inside window(left, right) and (q' - k) divisible by step (step >= 1).
struct Dilated {
  int64_t left;
  int64_t right;
  int64_t step;
  bool operator==(const Dilated&) const = default;
};

/// k < count. Spelled `sink(n)`; `prefix(n)` is read as the same.
struct Sink {
  int64_t count;
  bool operator==(const Sink&) const = default;
};

enum class GlobalSide {
  kBoth,     // q' or k is a global token
  kQueries,  // q' is a global token: global rows
  kKeys,     // k is a global token: global columns
};

/// Global tokens: the first n positions, or the positions in array `tokens` (int, [n] for all sequences or [batch, n];
/// -1 pads, so that sequences may have different numbers of them). Exactly one of `count` (when `tokens` is empty) and
/// `tokens` counts.
struct Global {
  int64_t count = 0;
  std::string tokens = {};
  GlobalSide side = GlobalSide::kBoth;
  bool operator==(const Global&) const = default;
};

/// segment[q'] == segment[k]. The array is int: one number for each key token: [batch, length], [length] (the same in
/// every row), or [tokens] when packed.
struct Documents {
  std::string segment;
  bool operator==(const Documents&) const = default;
};

/// Block lists by q / size and k / size. Either `table`: integers [heads or 1, row blocks, key blocks] (or with a
/// leading [batch or 1]), nonzero = visible, the number itself being the multiplicity when `counted`; or CSR: `offsets`
/// [heads or 1, row blocks + 1] into `indices` [n], the key blocks of each row block, a key block named m times having
/// multiplicity m when `counted`. A table may be larger than a sequence needs (a shorter sequence uses its upper left
/// corner), never smaller.
struct Blocks {
  int64_t size;
  std::string table = {};
  std::string offsets = {};
  std::string indices = {};
  bool counted = false;
  bool operator==(const Blocks&) const = default;
};

/// How BigBird's random blocks are drawn.
struct BigBirdTable {
  std::string array;  // int [heads or 1, row blocks - 2 or more, random]; row i - 1 belongs to query block i
  bool operator==(const BigBirdTable&) const = default;
};
struct BigBirdSeed {
  int64_t
      seed;  // NumPy's legacy generator seeded with this, drawn as Hugging Face draws in training (seed = layer index)
  bool operator==(const BigBirdSeed&) const = default;
};
struct BigBirdZero {  // every random block is block 0: Hugging Face in eval mode
  bool operator==(const BigBirdZero&) const = default;
};

/// Hugging Face's BigBird over nb = ceil(q_len / block) blocks (q_len == kv_len). Query blocks 0 and nb - 1 see all
/// keys once. Query block i sees blocks {0, nb - 1, i - 1, i, i + 1} once each, plus every entry of its random list
/// once more: a block that is listed and also in the set counts twice or more (a multiset).
struct BigBird {
  int64_t block;
  int64_t random;
  std::variant<BigBirdTable, BigBirdSeed, BigBirdZero> source;
  bool operator==(const BigBird&) const = default;
};

/// Token-level bit mask. bool [batch or 1, heads or 1, q_len, kv_len] (one byte a pair), or uint8 [batch or 1, heads or
/// 1, q_len, ceil(kv_len / 8)] (bit k & 7 of byte k >> 3). Leading dimensions of 1 may be left out.
struct Bits {
  std::string array;
  bool operator==(const Bits&) const = default;
};

/// Visible where the expression is true (or nonzero).
struct Where {
  Expression condition;
  bool operator==(const Where&) const = default;
};

struct And {
  std::vector<Mask> operands;  // two or more
  bool operator==(const And&) const = default;
};

struct Or {
  std::vector<Mask> operands;  // two or more
  bool operator==(const Or&) const = default;
};

struct Not {
  Box<Mask> operand;
  bool operator==(const Not&) const = default;
};

struct Mask {
  std::variant<All, None, Causal, Window, Dilated, Sink, Global, Documents, Blocks, BigBird, Bits, Where, And, Or, Not>
      node;
  bool operator==(const Mask&) const = default;
};

/// Builders: `window(256, 0) & causal() | sink(4)` is what the text says. `&` and `|` flatten their own kind.
Mask all();
Mask none();
Mask causal();
Mask window(int64_t left, int64_t right);
Mask dilated(int64_t left, int64_t right, int64_t step);
Mask sink(int64_t count);
Mask prefix(int64_t count);
Mask global_tokens(int64_t count, GlobalSide side = GlobalSide::kBoth);
Mask global_tokens(std::string tokens, GlobalSide side = GlobalSide::kBoth);
Mask documents(std::string segment);
Mask blocks(int64_t size, std::string table, bool counted = false);
Mask block_lists(int64_t size, std::string offsets, std::string indices, bool counted = false);
Mask bigbird(int64_t block, int64_t random, std::variant<BigBirdTable, BigBirdSeed, BigBirdZero> source);
Mask bits(std::string array);
Mask where(Expression condition);
Mask operator&(Mask left, Mask right);
Mask operator|(Mask left, Mask right);
Mask operator~(Mask operand);

/// True when the mask can give a multiplicity above 1: it holds bigbird or a counted block list outside every `~`.
bool is_counted(const Mask& mask);

}  // namespace harrier
