// A pattern: a mask, and how scores and the softmax are treated.
//
// Semantics, once:
//  * s = q . k, then in this order where given: scale, softcap, alibi, bias, score(expression); then padding; then the
//  mask.
//    Without `scale`, s is scaled by 1 / sqrt(head_dim).
//  * A sequence has an extent (what the geometry sees) and a valid length of at most the extent. Keys at or past the
//  valid length are
//    padding. Query rows past it are written as zeros (LSE as minus infinity).
//  * A row with no visible key gives O = 0, LSE = -inf and zero gradients, whatever the softmax. A sequence of length 0
//  is legal.
//  * NaN or Inf in memory outside a sequence never reaches a result. Softmax and accumulation are fp32. LSE is the
//  natural logarithm of
//    the softmax's denominator, with all that the denominator counts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "ir/expression.h"
#include "ir/mask.h"

namespace harrier {

/// Padding keys are hidden (the default).
struct PaddingExcluded {
  bool operator==(const PaddingExcluded&) const = default;
};

/// `value` is added to the scores of padding keys, which then take part (Hugging Face BigBird: -10000).
struct PaddingAdditive {
  double value;
  bool operator==(const PaddingAdditive&) const = default;
};

using Padding = std::variant<PaddingExcluded, PaddingAdditive>;

struct Score {
  std::optional<double> scale = {};    // s * scale
  std::optional<double> softcap = {};  // cap * tanh(s / cap), cap > 0
  std::string alibi = {};              // s - slopes[h] * |q' - k|; array float32 [heads]; empty = none
  std::string bias = {};  // s + bias[b, h, q, k]; float32 [batch or 1, heads or 1, q_len, kv_len]; empty = none
  std::optional<Expression> expression = {};  // any expression in s, b, h, q, k and arrays
  bool operator==(const Score&) const = default;
};

/// P = exp(s) / sum over visible keys of exp(s)
struct SoftmaxStandard {
  bool operator==(const SoftmaxStandard&) const = default;
};

/// A key of the extent that the mask hides counts exp(0) in the denominator and nothing in O (SPION). Padding keys that
/// the mask shows count nothing.
struct SoftmaxPrunedAsZero {
  bool operator==(const SoftmaxPrunedAsZero&) const = default;
};

/// exp(logits[h]) is added to the denominator; float32 [heads].
struct SoftmaxSinkLogit {
  std::string logits;
  bool operator==(const SoftmaxSinkLogit&) const = default;
};

using Softmax = std::variant<SoftmaxStandard, SoftmaxPrunedAsZero, SoftmaxSinkLogit>;

struct Pattern {
  Mask mask{All{}};
  Padding padding = {};
  Score score = {};
  Softmax softmax = {};
  bool operator==(const Pattern&) const = default;
};

}  // namespace harrier
