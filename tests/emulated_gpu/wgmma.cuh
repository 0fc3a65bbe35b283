// kernels/wgmma.cuh for the emulated GPU: the same names, no instructions.
#pragma once

#include "codegen/cuda/kernels/panels.cuh"

namespace harrier::wgmma {

inline void fence() {}
inline void commit() { harrier_emulated_commit_products(); }

template <int kPending>
inline void wait() {
  harrier_emulated_wait_products(kPending);
}

template <class Register, int kCount>
inline void hold(Register (&)[kCount]) {}

template <int kN, bool kBFloat16>
struct Product {
  static void shared_shared(float (&d)[kN / 2], uint64 a, uint64 b, int accumulate) {
    harrier_emulated_product_shared(d, kN, kBFloat16, a, b, false, accumulate != 0);
  }
  static void shared_n_major(float (&d)[kN / 2], uint64 a, uint64 b, int accumulate) {
    harrier_emulated_product_shared(d, kN, kBFloat16, a, b, true, accumulate != 0);
  }
  static void register_shared(float (&d)[kN / 2], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint64 b,
                              int accumulate) {
    const uint32 a[] = {a0, a1, a2, a3};
    harrier_emulated_product_register(d, kN, kBFloat16, a, b, accumulate != 0);
  }
};

}  // namespace harrier::wgmma
