// C += A B in fp32, the arithmetic of warpgroup products.
#pragma once

namespace harrier::emulated {

inline constexpr int kProductRows = 64;

/// c[64][n] += a[64][depth] b[depth][n], rows of c and b `n` apart, of a `depth` apart. n is a multiple of 8.
void multiply_add(float* c, const float* a, const float* b, int n, int depth);

}  // namespace harrier::emulated
