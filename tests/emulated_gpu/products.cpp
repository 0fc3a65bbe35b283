#include "products.h"

namespace harrier::emulated {
namespace {

constexpr int kRows = 4;

template <int kColumns>
__attribute__((always_inline)) inline void panel(float* c, const float* a, const float* b, int n, int depth) {
  float sums[kRows][kColumns];
  for (int row = 0; row < kRows; ++row) {
    for (int i = 0; i < kColumns; ++i) sums[row][i] = c[row * n + i];
  }
  for (int k = 0; k < depth; ++k) {
    for (int row = 0; row < kRows; ++row) {
      const float factor = a[row * depth + k];
      for (int i = 0; i < kColumns; ++i) sums[row][i] += factor * b[k * n + i];
    }
  }
  for (int row = 0; row < kRows; ++row) {
    for (int i = 0; i < kColumns; ++i) c[row * n + i] = sums[row][i];
  }
}

}  // namespace

#if defined(__x86_64__)
__attribute__((target_clones("arch=haswell", "default")))
#endif
void multiply_add(float* c, const float* a, const float* b, int n, int depth) {
  for (int row = 0; row < kProductRows; row += kRows) {
    int column = 0;
    for (; column + 16 <= n; column += 16) panel<16>(c + row * n + column, a + row * depth, b + column, n, depth);
    for (; column < n; column += 8) panel<8>(c + row * n + column, a + row * depth, b + column, n, depth);
  }
}

}  // namespace harrier::emulated
