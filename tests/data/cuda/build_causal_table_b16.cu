// Made by Harrier for the lists and the order of work. Pattern:
//   visible table[0] > 0 && k - (q + (kv_len - q_len)) <= int[0]
//   score s * float[0]
//   softmax standard
//   counted false
//   table_slots 1
//   arrays none
// Rows of 64 queries, key tiles of 64 in boxes of 16
#include "codegen/cuda/kernels/build_lists.cuh"
#include "codegen/cuda/kernels/build_order.cuh"
#include "codegen/cuda/kernels/combine.cuh"
#include "codegen/cuda/kernels/language.cuh"

namespace harrier {

struct Mask : NoMask {
  static constexpr MaskKind kKind = MaskKind::kPredicate;
  static constexpr int kIntervals = 1;

  template <int kIndex>
  static __device__ __forceinline__ Interval interval(const Position& at, int query) {
    return {0, query + at.arguments.integers[0] + at.key_length - at.query_length + 1};
  }

  static __device__ __forceinline__ int visible(const Position& at, int query, int key, int count) {
    count = ~(count - 1) >> (query % 64 / 16) & 1;  // which blocks of the row's queries see the box
    const Int q = query, k = key;
    return Int(((Int(count) > Int(0)) && ((k - (q + (Int(at.key_length) - Int(at.query_length)))) <= Int(at.arguments.integers[0])))).value;
  }
};

using Sink = NoSink;

struct Config {
  static constexpr int kValueDim = 64;
  static constexpr bool kBFloat16 = true;
  static constexpr int kTileQ = 64;
  static constexpr int kTileK = 64;
  static constexpr int kBoxRows = 16;
  static constexpr KeySourceKind kKeySource = KeySourceKind::kLists;
};

struct Lists {
  static constexpr bool kTable = true;
  static constexpr int kRowBlocks = 4;
  static constexpr bool kNeedsTable = true;
  static constexpr bool kPredicate = true;
  static constexpr bool kExact = true;
};

using Builder = ListBuilder<Config, Mask, Lists>;
static_assert(sizeof(Builder::Shared) == 8468, "the host and the kernel disagree on shared memory");

}  // namespace harrier

extern "C" __global__ void __launch_bounds__(harrier::kBuildThreads, 4) harrier_build_lists(
    const __grid_constant__ harrier::ListParams params) {
  extern __shared__ __align__(16) unsigned char memory[];
  harrier::Builder(params, *reinterpret_cast<harrier::Builder::Shared*>(memory)).run();
}

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
