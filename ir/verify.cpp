#include "ir/verify.h"

#include <algorithm>
#include <cmath>

#include "ir/lexer.h"
#include "ir/match.h"
#include "ir/verify_rules.h"

namespace harrier {
namespace {

constexpr int64_t kMaxHeads = 65536;
constexpr int64_t kMinHeadDim = 16;
constexpr int64_t kMaxHeadDim = 256;
constexpr int64_t kHeadDimStep = 8;

/// A key run carries 8 bits for each of so many tables.
constexpr int kMaxBlockAtoms = 4;
constexpr int64_t kMaxRandomBlocks = 254;

/// NumPy's legacy generator takes 32 bits.
constexpr int64_t kMaxSeed = std::numeric_limits<uint32_t>::max();

void check_head_dim(int64_t dim, const char* what) {
  if (dim < kMinHeadDim || dim > kMaxHeadDim || dim % kHeadDimStep != 0) {
    refuse("{} is {}, expected a multiple of {} in {}..{}; pad the heads with zeros", what, dim, kHeadDimStep,
           kMinHeadDim, kMaxHeadDim);
  }
}

void check_bound(int64_t bound, const char* what) {
  if (bound != kUnbounded)
    check_range(bound, 0, kMaxInt32, what, "write inf for no limit, and & causal for no future keys");
}

void check_positive(int64_t value, const char* what) { check_range(value, 1, kMaxInt32, what, "use at least 1"); }

void check_count(int64_t value, const char* what) {
  check_range(value, 0, kMaxInt32, what, "count tokens from the start of the sequence");
}

class MaskVerifier {
 public:
  void check(const Mask& mask, int depth) {
    if (depth > kMaxTreeDepth) refuse("a mask has more than {} levels; use bits(@mask) instead", kMaxTreeDepth);
    match(
        mask.node, [](const All&) {}, [](const None&) {}, [](const Causal&) {},
        [](const Window& window) {
          check_bound(window.left, "left of window");
          check_bound(window.right, "right of window");
        },
        [](const Dilated& dilated) {
          check_bound(dilated.left, "left of dilated");
          check_bound(dilated.right, "right of dilated");
          check_positive(dilated.step, "step of dilated");
        },
        [](const Sink& sink) { check_count(sink.count, "n of sink"); },
        [](const Global& global) { check_global(global); },
        [](const Documents& documents) { check_name(documents.segment, "the array of documents"); },
        [&](const Blocks& blocks) { check_blocks(blocks); }, [&](const BigBird& bigbird) { check_bigbird(bigbird); },
        [](const Bits& bits) { check_name(bits.array, "the array of bits"); },
        [](const Where& where) { verify_expression(where.condition, ExpressionUse::kWhere); },
        [&](const And& conjunction) { check_operands<And>(conjunction.operands, "&", depth); },
        [&](const Or& disjunction) { check_operands<Or>(disjunction.operands, "|", depth); },
        [&](const Not& negation) { check(*negation.operand, depth + 1); });
  }

 private:
  static void check_global(const Global& global) {
    if (global.tokens.empty()) {
      check_count(global.count, "n of global");
      return;
    }
    check_name(global.tokens, "the array of global");
    if (global.count != 0) {
      refuse("global has both n = {} and @{}, expected one; join two globals with |", global.count, global.tokens);
    }
  }

  void check_blocks(const Blocks& blocks) {
    count_block_atom();
    check_positive(blocks.size, "size of blocks");
    const bool has_lists = !blocks.offsets.empty() || !blocks.indices.empty();
    if (has_lists && !blocks.table.empty()) {
      refuse("blocks has both @{} and lists, expected one; join two blocks with |", blocks.table);
    }
    if (has_lists) {
      check_name(blocks.offsets, "the offsets of blocks");
      check_name(blocks.indices, "the indices of blocks");
    } else {
      check_name(blocks.table, "the table of blocks");
    }
  }

  void check_bigbird(const BigBird& bigbird) {
    count_block_atom();
    check_positive(bigbird.block, "block of bigbird");
    check_range(bigbird.random, 0, kMaxRandomBlocks, "random of bigbird",
                "a key block counts at most 255 times, list fewer random blocks");
    match(
        bigbird.source, [](const BigBirdTable& table) { check_name(table.array, "the table of bigbird"); },
        [](const BigBirdSeed& seed) {
          check_range(seed.seed, 0, kMaxSeed, "seed of bigbird", "NumPy's generator takes 32 bits");
        },
        [](const BigBirdZero&) {});
  }

  void count_block_atom() {
    if (++block_atoms_ > kMaxBlockAtoms) {
      refuse("the mask has more than {} block atoms (blocks, bigbird); merge their tables into one", kMaxBlockAtoms);
    }
  }

  template <typename Operator>
  void check_operands(const std::vector<Mask>& operands, const char* symbol, int depth) {
    if (operands.size() < 2) {
      refuse("{} has {} operand{}, expected two or more; use the operand alone", symbol, operands.size(),
             operands.size() == 1 ? "" : "s");
    }
    for (const Mask& operand : operands) {
      if (std::holds_alternative<Operator>(operand.node)) {
        refuse("an operand of {0} is itself a {0}, expected one flat list; build it with operator{0}", symbol);
      }
      check(operand, depth + 1);
    }
  }

  int block_atoms_ = 0;
};

void check_score(const Score& score) {
  if (score.scale) check_float32(*score.scale, "scale");
  if (score.softcap) {
    check_float32(*score.softcap, "softcap");
    if (!(static_cast<float>(*score.softcap) > 0)) {
      refuse("softcap is {}, expected more than 0; leave it out for no cap", *score.softcap);
    }
  }
  if (!score.alibi.empty()) check_name(score.alibi, "the array of alibi");
  if (!score.bias.empty()) check_name(score.bias, "the array of bias");
  if (score.expression) verify_expression(*score.expression, ExpressionUse::kScore);
}

void check_length(int64_t length, const char* what) {
  check_range(length, 0, kMaxInt32, what, "positions are 32-bit integers");
}

void check_length_range(int64_t min, int64_t max) {
  check_length(min, "min of lengths");
  check_length(max, "max of lengths");
  if (min > max) refuse("lengths have min {} above max {}, expected min <= max; swap them", min, max);
}

void check_lognormal(const LognormalLength& lognormal) {
  check_length_range(lognormal.min, lognormal.max);
  if (!(lognormal.mean > 0) || lognormal.mean > static_cast<double>(kMaxInt32)) {
    refuse("mean of lognormal is {}, expected more than 0 and at most {}; use the mean length in tokens",
           lognormal.mean, kMaxInt32);
  }
  if (!(lognormal.sigma >= 0) || lognormal.sigma > 10) {
    refuse("sigma of lognormal is {}, expected 0..10; it is the deviation of the logarithm, 0.5 is usual",
           lognormal.sigma);
  }
}

void check_histogram(const HistogramLength& histogram) {
  if (histogram.bins.empty()) refuse("histogram has 0 bins, expected at least one; write histogram(512: 1)");
  double total = 0;
  for (const HistogramBin& bin : histogram.bins) {
    check_length(bin.length, "a length of histogram");
    if (!(bin.weight > 0) || !std::isfinite(bin.weight)) {
      refuse("the weight of length {} is {}, expected more than 0 and finite; leave the length out", bin.length,
             bin.weight);
    }
    total += bin.weight;
  }
  if (!std::isfinite(total))
    refuse("the weights of histogram add up to {}, expected a finite sum; scale them down", total);
}

void check_trace(const TraceLength& trace) {
  if (trace.path.empty()) refuse("trace has an empty path, expected a file; write trace(\"lengths.csv\")");
  if (!is_plain_text(trace.path)) {
    refuse("the path of trace holds control characters or bytes that are not UTF-8; rename the file");
  }
  for (const int64_t length : trace.lengths) check_length(length, "a length of trace");
}

}  // namespace

void check_range(int64_t value, int64_t min, int64_t max, const char* what, const char* remedy) {
  if (value < min || value > max) refuse("{} is {}, expected {}..{}; {}", what, value, min, max, remedy);
}

void check_name(const std::string& name, const char* what) {
  if (!is_name(name)) {
    refuse("{} is '{}', expected letters, digits and _, not starting with a digit; rename it", what,
           is_plain_text(name) ? name : "?");
  }
}

void check_float32(double value, const char* what) {
  if (!(std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max()))) {
    refuse("{} is {}, expected a finite fp32 number; use one between -3.4e38 and 3.4e38", what, value);
  }
}

void verify(const Shape& shape) {
  check_range(shape.heads, 1, kMaxHeads, "heads", "split the batch instead");
  check_range(shape.kv_heads, 1, shape.heads, "kv_heads", "there are as many as heads, or fewer");
  if (shape.heads % shape.kv_heads != 0) {
    refuse("kv_heads is {}, expected a divisor of heads {}; repeat or drop key heads", shape.kv_heads, shape.heads);
  }
  check_head_dim(shape.head_dim, "head_dim");
  check_head_dim(shape.value_dim, "value_dim");
}

void verify(const Mask& mask) { MaskVerifier().check(mask, 1); }

void verify(const Pattern& pattern) {
  verify(pattern.mask);
  if (const auto* additive = std::get_if<PaddingAdditive>(&pattern.padding)) {
    check_float32(additive->value, "padding additive");
  }
  check_score(pattern.score);
  if (const auto* sink = std::get_if<SoftmaxSinkLogit>(&pattern.softmax)) {
    check_name(sink->logits, "the array of sink_logit");
  }
  array_uses(pattern);
}

void verify(const LengthDistribution& distribution) {
  match(
      distribution, [](const FixedLength& fixed) { check_length(fixed.length, "length of fixed"); },
      [](const UniformLength& uniform) { check_length_range(uniform.min, uniform.max); },
      [](const LognormalLength& lognormal) { check_lognormal(lognormal); },
      [](const HistogramLength& histogram) { check_histogram(histogram); },
      [](const TraceLength& trace) { check_trace(trace); });
}

void verify(const Workload& workload) {
  if (!workload.name.empty()) check_name(workload.name, "the name of the workload");
  verify(workload.shape);
  verify(workload.pattern);
  verify(workload.lengths);
  check_range(workload.batch, 1, kMaxInt32, "batch", "a batch has at least one sequence");
}

}  // namespace harrier
