// What a compiled CPU kernel is handed. Plain data shared by the code generator (which reads it by field index) and the
// runtime (which fills it); static_asserts in codegen hold the layout.
#pragma once

#include <cstdint>

namespace harrier {

/// Keys [begin, end) of one row that are alike: hidden ones are in no run.
struct KeyRun {
  int64_t begin;
  int64_t end;
  int32_t count;          // > 0: full: every (q, k) has this multiplicity. 0: partial: ask the predicate
  uint32_t table_counts;  // partial runs: 8 bits for each block table: its TileCount
  float score_add;        // added to each score (additive padding)
  uint32_t count_only;    // 1: keys are counted as shown but not attended (excluded padding under pruned_as_zero)
  bool operator==(const KeyRun&) const = default;
};
static_assert(sizeof(KeyRun) == 32, "codegen/cpu reads KeyRun as {i64, i64, i32, i32, float, i32}");

/// Dimensions that an array of a pattern may have.
inline constexpr int kMaxArrayRank = 4;

/// An array of the pattern: element (i, j, ...) is at data[i * strides[0] + j * strides[1] + ...], strides in elements,
/// 0 = broadcast.
struct BoundArray {
  const void* data;
  int64_t strides[kMaxArrayRank];
};

/// One row of work: up to tile_q queries of one head of one sequence against its key runs.
struct RowArguments {
  const void* q;  // first query of the row; elements of dtype, dims contiguous
  const void* k;  // key 0 of the sequence and kv head
  const void* v;
  void* out;         // output of the row's first query: written, read by the backward pass
  float* lse;        // of the row's first query, or null
  int64_t q_stride;  // elements from one token to the next
  int64_t k_stride;
  int64_t v_stride;
  int64_t out_stride;
  int64_t lse_stride;
  int64_t query_token;  // packed token index of query 0 / key 0 of the sequence
  int64_t key_token;
  int32_t batch;
  int32_t head;
  int32_t query_begin;  // position of the row's first query
  int32_t query_count;  // 1..tile_q
  int32_t query_length;
  int32_t key_length;
  const KeyRun* runs;
  int64_t run_count;
  const BoundArray* arrays;
  const int32_t* int_parameters;
  const float* float_parameters;
  float* scratch;  // scratch_floats(...) floats, 64-byte aligned, one for each thread
};

using CpuRowFunction = void (*)(const RowArguments*);

/// One row of a backward pass.
struct BackwardRowArguments {
  RowArguments row;   // as of the forward pass; out and lse are what that wrote
  const void* d_out;  // of the row's first query; elements of dtype
  void* d_q;          // of the row's first query; elements of dtype, written whole
  float* d_k;         // key 0 of the sequence and kv head; added to
  float* d_v;
  int64_t d_out_stride;
  int64_t d_q_stride;
  int64_t d_k_stride;
  int64_t d_v_stride;
  float* const* d_arrays;  // for each of LoweredPattern::arrays its gradient, laid out like it and added to; null: none
  // Called before anything is added for keys [key_begin, key_end): all that the row adds for keys below is added.
  void (*await_turn)(void* turn, int64_t key_begin, int64_t key_end);
  void* turn;
};

using CpuBackwardRowFunction = void (*)(const BackwardRowArguments*);

/// Rounds `count` floats, a multiple of 8, to the kernel's dtype.
using CpuNarrowFunction = void (*)(const float* from, void* to, int64_t count);

}  // namespace harrier
