// Made by Harrier for the lists and the order of work. Pattern:
//   visible k - (q + (kv_len - q_len)) <= int[0]
//   score s * float[0]
//   softmax standard
//   counted false
//   table_slots 0
//   arrays none
// Rows of 192 queries, key tiles of 128 in boxes of 128
#include "codegen/cuda/kernels/build_order.cuh"
#include "codegen/cuda/kernels/combine.cuh"
#include "codegen/cuda/kernels/language.cuh"

namespace harrier {

struct Mask : NoMask {
  static constexpr MaskKind kKind = MaskKind::kIntervals;
  static constexpr int kIntervals = 1;

  template <int kIndex>
  static __device__ __forceinline__ Interval interval(const Position& at, int query) {
    return {0, query + at.arguments.integers[0] + at.key_length - at.query_length + 1};
  }
};

using Sink = NoSink;

struct Config {
  static constexpr int kValueDim = 64;
  static constexpr bool kBFloat16 = true;
  static constexpr int kTileQ = 192;
  static constexpr int kTileK = 128;
  static constexpr int kBoxRows = 128;
  static constexpr KeySourceKind kKeySource = KeySourceKind::kClosedForm;
};

}  // namespace harrier

extern "C" __global__ void __launch_bounds__(harrier::kBuildThreads, 4) harrier_measure_rows(
    const __grid_constant__ harrier::OrderParams params) {
  harrier::measure_rows<harrier::Config, harrier::Mask>(params);
}

extern "C" __global__ void __launch_bounds__(harrier::kBuildThreads, 4) harrier_cut_rows(
    const __grid_constant__ harrier::OrderParams params) {
  harrier::cut_rows(params);
}

extern "C" __global__ void __launch_bounds__(harrier::kBuildThreads, 4) harrier_order_rows(
    const __grid_constant__ harrier::OrderParams params) {
  harrier::order_rows<harrier::Config>(params);
}

extern "C" __global__ void __launch_bounds__(32 * harrier::kCombineWarps) harrier_combine(
    const __grid_constant__ harrier::ForwardParams params, const harrier::SplitRow* split_rows,
    const int* split_count) {
  harrier::combine<harrier::Config, harrier::Mask, harrier::Sink>(params, split_rows, split_count);
}
