// Made by Harrier for the lists and the order of work. Pattern:
//   visible table[0]
//   score s * float[0]
//   softmax standard
//   counted true
//   table_slots 1
//   arrays none
// Rows of 64 queries, key tiles of 64 in boxes of 64
#include "codegen/cuda/kernels/build_lists.cuh"
#include "codegen/cuda/kernels/build_order.cuh"
#include "codegen/cuda/kernels/combine.cuh"
#include "codegen/cuda/kernels/language.cuh"

namespace harrier {

struct Mask : NoMask {
  static constexpr bool kCounted = true;
};

using Sink = NoSink;

struct Config {
  static constexpr int kValueDim = 64;
  static constexpr bool kBFloat16 = true;
  static constexpr int kTileQ = 64;
  static constexpr int kTileK = 64;
  static constexpr int kBoxRows = 64;
  static constexpr KeySourceKind kKeySource = KeySourceKind::kLists;
};

struct Lists {
  static constexpr bool kTable = true;
  static constexpr int kRowBlocks = 1;
  static constexpr bool kNeedsTable = true;
  static constexpr bool kPredicate = false;
  static constexpr bool kExact = true;
};

using Builder = ListBuilder<Config, Mask, Lists>;
static_assert(sizeof(Builder::Shared) == 5384, "the host and the kernel disagree on shared memory");

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
