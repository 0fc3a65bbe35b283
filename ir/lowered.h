// A pattern lowered for code generation: expressions, argument slots, nothing that depends on lengths or on array
// contents.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ir/expression.h"

namespace harrier {

/// An array as the kernel loads it. The compiler prepares it at bind time: `name` may be derived ("tokens.member").
struct ArraySlot {
  enum class Element { kInt32, kUInt8, kFloat32 };
  std::string name;
  Element element;
  int rank;
  bool operator==(const ArraySlot&) const = default;
};

enum class SoftmaxKind { kStandard, kPrunedAsZero, kSinkLogit };

struct LoweredPattern {
  /// Multiplicity of (b, h, q, k) in a partial tile (bool or int). Empty when the mask is `all` and no tile is ever
  /// partial.
  std::optional<Expression> visible = {};
  /// The final score (float) as a function of s = q . k and the position.
  Expression score;
  SoftmaxKind softmax = SoftmaxKind::kStandard;
  std::string sink_logits = {};           // array slot of the per-head logits when softmax is kSinkLogit
  bool additive_padding = false;          // key runs may carry a score_add
  bool counted = false;                   // `visible` may exceed 1
  int table_slots = 0;                    // block tables whose TileCount the key runs carry
  std::vector<ArraySlot> arrays = {};     // in slot order; Load nodes name them
  std::vector<int64_t> int_values = {};   // values of the int Parameters of this very pattern
  std::vector<double> float_values = {};  // values of the float Parameters
  bool operator==(const LoweredPattern&) const = default;
};

/// How the score moves with one load of a float array.
struct LoadSlope {
  Load load;
  Expression slope;
  bool operator==(const LoadSlope&) const = default;
};

/// Derivatives of LoweredPattern::score, for the backward pass: float expressions of the same variables.
struct ScoreSlopes {
  Expression in_dot = {FloatLiteral{0}};  // in s = q . k
  std::vector<LoadSlope> in_loads = {};   // equal loads are one
  bool operator==(const ScoreSlopes&) const = default;
};

/// One line a field; the same text for the same lowered pattern.
std::string print(const LoweredPattern& lowered);
std::string print(const ScoreSlopes& slopes);

/// The same without the parameters' values: patterns of equal structure share one compiled kernel.
std::string structural_text(const LoweredPattern& lowered);

}  // namespace harrier
