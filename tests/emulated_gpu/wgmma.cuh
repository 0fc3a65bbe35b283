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
  static void register_shared(float (&d)[kN / 2], const uint32* a, uint64 b, int accumulate) {
    harrier_emulated_product_register(d, kN, kBFloat16, a, b, accumulate != 0);
  }

  static void four_shared_shared(float (&d)[kN / 2], uint64 a, uint64 b, int accumulate) {
    for (int i = 0; i < 4; ++i) shared_shared(d, a + 2 * i, b + 2 * i, i > 0 ? 1 : accumulate);
  }
  template <int kStep>
  static void four_shared_n_major(float (&d)[kN / 2], uint64 a, uint64 b, int accumulate) {
    for (int i = 0; i < 4; ++i) shared_n_major(d, a + 2 * i, b + kStep * i, i > 0 ? 1 : accumulate);
  }
  template <int kStep>
  static void four_register_shared(float (&d)[kN / 2], const uint32* a, uint64 b, int accumulate) {
    for (int i = 0; i < 4; ++i) register_shared(d, a + 4 * i, b + kStep * i, i > 0 ? 1 : accumulate);
  }
};

}  // namespace harrier::wgmma
