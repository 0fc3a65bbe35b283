// Products of a warpgroup over whole tiles: what they start is under way when they return, one group to wait for.
//
// Tiles are given by low words of descriptors, as Panels makes them.
#pragma once

#include "codegen/cuda/kernels/wgmma.cuh"

namespace harrier::wgmma {

/// d = a b^T over all columns of both.
template <int kN, bool kBFloat16, class LeftPanels, class RightPanels>
__device__ __forceinline__ void start_by_columns(float (&d)[kN / 2], uint32 a, uint32 b) {
  using Step = Product<kN, kBFloat16>;
  hold(d);
  fence();
#pragma unroll
  for (int panel = 0; panel < LeftPanels::kCount; ++panel) {
    const uint32 left = panel * LeftPanels::kPanelBytes, right = panel * RightPanels::kPanelBytes;
    if constexpr (LeftPanels::kPanelColumns == 64) {
      Step::four_shared_shared(d, LeftPanels::descriptor(a, left), RightPanels::descriptor(b, right), panel > 0);
    } else {
#pragma unroll
      for (int i = 0; i < LeftPanels::kPanelColumns / 16; ++i) {
        Step::shared_shared(d, LeftPanels::descriptor(a, left + 32 * i), RightPanels::descriptor(b, right + 32 * i),
                            panel + i > 0);
      }
    }
  }
  commit();
}

/// d = a b, with a in registers and `kRows` rows of b; added to what d holds if `accumulate`.
template <int kN, bool kBFloat16, class Panels, int kRows>
__device__ __forceinline__ void start_by_rows(float (&d)[kN / 2], uint32 (&a)[kRows / 4], uint32 b, bool accumulate) {
  using Step = Product<kN, kBFloat16>;
  constexpr int kStepBytes = 16 * Panels::kRowBytes;
  hold(a);
  hold(d);
  fence();
#pragma unroll
  for (int i = 0; i + 4 <= kRows / 16; i += 4) {
    Step::template four_register_shared<kStepBytes / 16>(d, a + 4 * i, Panels::descriptor(b, i * kStepBytes),
                                                         i > 0 || accumulate);
  }
#pragma unroll
  for (int i = kRows / 64 * 4; i < kRows / 16; ++i) {
    Step::register_shared(d, a + 4 * i, Panels::descriptor(b, i * kStepBytes), i > 0 || accumulate);
  }
  commit();
}

/// d = a b, over `kRows` rows of b, which are columns of a.
template <int kN, bool kBFloat16, class LeftPanels, class RightPanels, int kRows>
__device__ __forceinline__ void start_by_columns_and_rows(float (&d)[kN / 2], uint32 a, uint32 b) {
  static_assert(LeftPanels::kPanelColumns == 64 && kRows % 64 == 0, "four steps lie in one panel");
  constexpr int kStepBytes = 16 * RightPanels::kRowBytes;
  hold(d);
  fence();
#pragma unroll
  for (int i = 0; i < kRows / 16; i += 4) {
    Product<kN, kBFloat16>::template four_shared_n_major<kStepBytes / 16>(
        d, LeftPanels::descriptor(a, i / 4 * LeftPanels::kPanelBytes), RightPanels::descriptor(b, i * kStepBytes),
        i > 0);
  }
  commit();
}

}  // namespace harrier::wgmma
