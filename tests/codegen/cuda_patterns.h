// For the tests of the CUDA code generator: lowered patterns, as lower_pattern makes them, and expected texts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "ir/lowered.h"
#include "ir/workload.h"

namespace harrier::test {

/// An expected text.
inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline Expression parameter(int index) { return {Parameter{.index = index, .is_float = false}}; }
inline Expression aligned_query() { return var::q() + (var::kv_len() - var::q_len()); }

inline Expression causal() { return var::k() - aligned_query() <= parameter(0); }
inline Expression window(int first = 0) {
  return aligned_query() - var::k() <= parameter(first) && var::k() - aligned_query() <= parameter(first + 1);
}
/// A window, global columns, global rows.
inline Expression longformer() {
  const Expression rows = aligned_query() >= constant(int64_t{0}) && aligned_query() < parameter(2);
  return window() || (rows || var::k() < parameter(2));
}

inline LoweredPattern pattern(std::optional<Expression> visible, std::vector<int64_t> int_values = {}) {
  LoweredPattern lowered;
  lowered.visible = std::move(visible);
  lowered.score = var::s() * Expression{Parameter{.index = 0, .is_float = true}};
  lowered.int_values = std::move(int_values);
  lowered.float_values = {0.125};
  return lowered;
}

/// BigBird: a counted block table.
inline LoweredPattern counted_table() {
  LoweredPattern lowered = pattern(Expression{TileCount{0}});
  lowered.counted = true;
  lowered.table_slots = 1;
  return lowered;
}

/// A table inside documents, with softcap and ALiBi and a sink.
inline LoweredPattern everything_at_once() {
  const Expression segment_q = load("segment", {binary(BinaryKind::kMax, var::q_token(), constant(int64_t{0}))});
  LoweredPattern lowered =
      pattern(Expression{TileCount{0}} > constant(int64_t{0}) && equal(segment_q, load("segment", {var::k_token()})) &&
              equal((var::q() - var::k()) % constant(int64_t{3}), constant(int64_t{0})));
  lowered.table_slots = 1;
  lowered.score = unary(UnaryKind::kTanh, lowered.score) * constant(30.0) -
                  load("slopes", {var::h()}, true) * unary(UnaryKind::kAbs, aligned_query() - var::k());
  lowered.softmax = SoftmaxKind::kSinkLogit;
  lowered.sink_logits = "sinks";
  lowered.arrays = {{"segment", ArraySlot::Element::kInt32, 1},
                    {"slopes", ArraySlot::Element::kFloat32, 1},
                    {"sinks", ArraySlot::Element::kFloat32, 1}};
  return lowered;
}

inline Shape shape(int64_t head_dim, int64_t value_dim, DataType dtype = DataType::kBFloat16) {
  return {.heads = 16, .kv_heads = 4, .head_dim = head_dim, .value_dim = value_dim, .dtype = dtype};
}

}  // namespace harrier::test
