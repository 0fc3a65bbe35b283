// Matrix instructions against plain products: wgmma for every swizzle and every width that plans use, ldmatrix and mma.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>
#include <random>

#include "device.h"
#include "number_formats.h"

namespace harrier::test {
namespace {

using testing::HasSubstr;

/// 16-bit numbers in rows, and as floats.
struct Matrix {
  int rows, columns;
  bool bfloat16;
  std::vector<std::uint16_t> bits;

  Matrix(int rows_, int columns_, bool bfloat16_, unsigned seed) : rows(rows_), columns(columns_), bfloat16(bfloat16_) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int i = 0; i < rows * columns; ++i) {
      const float value = normal(random);
      bits.push_back(bfloat16 ? harrier_emulated::to_bfloat16(value) : harrier_emulated::to_float16(value));
    }
  }
  double at(int row, int column) const {
    return harrier_emulated::from_16_bits(bits[static_cast<std::size_t>(row * columns + column)], bfloat16);
  }
  /// Panels of `span` bytes; what lies past the last column is zeros.
  CUtensorMap map(const Buffer<std::uint16_t>& device, int span) const {
    CUtensorMap encoded;
    const unsigned long long sizes[] = {static_cast<unsigned>(columns), static_cast<unsigned>(rows), 1, 1, 1};
    const unsigned long long strides[] = {2ull * static_cast<unsigned>(columns), 16, 16, 16};
    const unsigned box[] = {static_cast<unsigned>(span) / 2, static_cast<unsigned>(rows), 1, 1, 1};
    const unsigned steps[] = {1, 1, 1, 1, 1};
    check(cuTensorMapEncodeTiled(&encoded, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 5, device.data(), sizes, strides, box,
                                 steps, 0,
                                 span == 128  ? 3
                                 : span == 64 ? 2
                                 : span == 32 ? 1
                                              : 0,
                                 0, 0));
    return encoded;
  }
};

constexpr int kDepth = 64;
constexpr char kProducts[] = R"(
#include "codegen/cuda/kernels/ptx.cuh"
#include "codegen/cuda/kernels/wgmma.cuh"
using namespace harrier;

// Panels of kSpan bytes and `rows` rows, one behind the other.
__device__ void load(const TensorMap* map, uint32 to, int rows, int panels, uint32 barrier) {
  ptx::barrier_init(barrier, 1);
  ptx::barrier_expect(barrier, panels * rows * kSpan);
  for (int i = 0; i < panels; ++i)
    ptx::load_box(to + i * rows * kSpan, map, barrier, i * kSpan / 2, 0, 0, 0, 0, ptx::L2Policy::kEvictLast);
}
__device__ uint64 descriptor(uint32 address, uint32 leading, uint32 stride) {
  const uint64 mode = kSpan == 128 ? 1 : kSpan == 64 ? 2 : kSpan == 32 ? 3 : 0;
  return (address >> 4) | uint64{leading >> 4} << 16 | uint64{stride >> 4} << 32 | mode << 62;
}

// scores = a b^T with k-major operands; output = 1 + p v, or p v where kN is 112, with p in registers and v n-major;
// both = a v, a in shared memory.
extern "C" __global__ void __launch_bounds__(128) test(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
    const __grid_constant__ TensorMap v, const unsigned short* p, float* scores, float* output,
    float* both) {
  extern __shared__ __align__(1024) unsigned char memory[];
  constexpr int kPanels = 128 / kSpan;
  constexpr int kWide = (2 * kN + kSpan - 1) / kSpan;
  const uint32 barrier = ptx::shared_address(memory), left = barrier + 1024, right = left + 64 * 128;
  const uint32 values = right + kN * 128;
  if (threadIdx.x == 0) {
    load(&a, left, 64, kPanels, barrier);
    load(&b, right, kN, kPanels, barrier + 8);
    load(&v, values, 64, kWide, barrier + 16);
  }
  __syncthreads();
  for (int i = 0; i < 3; ++i) ptx::barrier_wait(barrier + 8 * i, 0);
  float s[kN / 2], o[kN / 2], both_sums[kN / 2];
  for (float& x : o) x = 1.0f;
  wgmma::fence();
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = 2 * (threadIdx.x % 4);
  uint32 r[16];
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) memcpy(&r[4 * i + j], p + (row + 8 * (j % 2)) * 64 + 16 * i + column + 8 * (j / 2), 4);
  }
  using Product = wgmma::Product<kN, kBFloat16>;
  const auto left_descriptor = [&](int i) {
    return descriptor(left + 32 * i / kSpan * 64 * kSpan + 32 * i % kSpan, 64 * kSpan, 8 * kSpan);
  };
  const auto right_descriptor = [&](int i) {
    return descriptor(right + 32 * i / kSpan * kN * kSpan + 32 * i % kSpan, kN * kSpan, 8 * kSpan);
  };
  const auto value_descriptor = [&](int i) {
    const uint32 start = values + 16 * i * kSpan;
    return kSpan == 16 ? descriptor(start, 8 * kSpan, 64 * kSpan) : descriptor(start, 64 * kSpan, 8 * kSpan);
  };
  if constexpr (kSpan == 128) {  // four steps lie in a panel
    Product::four_shared_shared(s, left_descriptor(0), right_descriptor(0), 0);
    wgmma::commit();
    Product::four_register_shared<kSpan>(o, r, value_descriptor(0), kN != 112);
    wgmma::commit();
    Product::four_shared_n_major<kSpan>(both_sums, left_descriptor(0), value_descriptor(0), 0);
    wgmma::commit();
  } else {
    for (int i = 0; i < 4; ++i) Product::shared_shared(s, left_descriptor(i), right_descriptor(i), i > 0);
    wgmma::commit();
    for (int i = 0; i < 4; ++i) Product::register_shared(o, r + 4 * i, value_descriptor(i), i > 0 || kN != 112);
    wgmma::commit();
    for (int i = 0; i < 4; ++i) Product::shared_n_major(both_sums, left_descriptor(i), value_descriptor(i), i > 0);
    wgmma::commit();
  }
  if (s[0] == s[0] || o[0] == o[0]) __trap();  // not before the wait
  wgmma::wait<2>();
  if (s[0] != s[0] || o[0] == o[0] || both_sums[0] == both_sums[0]) __trap();
  wgmma::wait<0>();
  for (int i = 0; i < kN / 2; ++i) {
    const int place = (row + 8 * (i / 2 % 2)) * kN + i / 4 * 8 + column + i % 2;
    scores[place] = s[i];
    output[place] = o[i];
    both[place] = both_sums[i];
  }
}
)";

void expect_products(int span, int n, bool bfloat16) {
  const Context context;
  const Module module(
      fmt::format("constexpr int kSpan = {}, kN = {};\nconstexpr bool kBFloat16 = {};\n", span, n, bfloat16) +
      kProducts);
  const Matrix a(64, kDepth, bfloat16, 1), b(n, kDepth, bfloat16, 2), v(64, n, bfloat16, 3), p(64, 64, bfloat16, 4);
  const Buffer<std::uint16_t> device_a(a.bits), device_b(b.bits), device_v(v.bits), device_p(p.bits);
  const Buffer<float> scores(static_cast<std::size_t>(64 * n)), output(static_cast<std::size_t>(64 * n)),
      both(static_cast<std::size_t>(64 * n));
  const unsigned wide = static_cast<unsigned>((2 * n + span - 1) / span * span);
  const unsigned bytes = 1024 + 64 * 128 + static_cast<unsigned>(n) * 128 + 64 * wide;
  check(launch(module.kernel("test"), {1}, 128, bytes, a.map(device_a, span), b.map(device_b, span),
               v.map(device_v, span), device_p.data(), scores.data(), output.data(), both.data()));
  const auto found_scores = scores.download(), found_output = output.download(), found_both = both.download();
  double worst = 0;
  for (int row = 0; row < 64; ++row) {
    for (int column = 0; column < n; ++column) {
      double score = 0, sum = n == 112 ? 0 : 1, product = 0;
      for (int k = 0; k < 64; ++k) {
        score += a.at(row, k) * b.at(column, k);
        sum += p.at(row, k) * v.at(k, column);
        product += a.at(row, k) * v.at(k, column);
      }
      const auto place = static_cast<std::size_t>(row * n + column);
      worst = std::max({worst, std::abs(found_scores[place] - score), std::abs(found_output[place] - sum),
                        std::abs(found_both[place] - product)});
    }
  }
  EXPECT_LT(worst, 1e-4) << "span " << span << ", n " << n;
}

TEST(EmulatedWgmma, MultipliesInEverySwizzle) {
  for (const int span : {16, 32, 64, 128}) {
    for (const bool bfloat16 : {false, true}) expect_products(span, 96, bfloat16);
  }
}

TEST(EmulatedWgmma, MultipliesInEveryWidth) {
  for (const int n : {32, 64, 80, 112, 128, 144, 160, 176, 192, 256}) expect_products(n % 64 == 0 ? 128 : 64, n, true);
}

/// Runs a body with 128 threads; `d` are accumulators, `zeros` describes shared memory.
std::string complaint(const std::string& body) {
  const Context context;
  const Module module(
      "#include \"codegen/cuda/kernels/ptx.cuh\"\n#include \"codegen/cuda/kernels/wgmma.cuh\"\nusing namespace "
      "harrier;\n"
      "extern \"C\" __global__ void __launch_bounds__(128) test() {\n"
      "  extern __shared__ __align__(1024) unsigned char memory[];\n  const int n = threadIdx.x;\n"
      "  const uint64 zeros = (ptx::shared_address(memory) >> 4) | 1ull << 62 | 64ull << 32;\n  float d[16];\n" +
      body + "\n}\n");
  testing::internal::CaptureStderr();
  EXPECT_EQ(launch(module.kernel("test"), {1}, 128, 8192), CUDA_ERROR_LAUNCH_FAILED);
  return testing::internal::GetCapturedStderr();
}

TEST(EmulatedWgmma, RefusesMisuse) {
  const std::string product = "wgmma::Product<32, true>::shared_shared(d, zeros, zeros, 0);\nwgmma::commit();\n";
  EXPECT_THAT(complaint(product), HasSubstr("exits while 1 warpgroup products are in flight"));
  EXPECT_THAT(complaint(product + "d[3] = 1.0f;\nwgmma::wait<0>();"), HasSubstr("in flight were written"));
  EXPECT_THAT(complaint("wgmma::Product<32, true>::shared_shared(d, zeros + (n == 9), zeros, 0);\nwgmma::commit();\n"
                        "wgmma::wait<0>();"),
              HasSubstr("threads 0 and 9 of a warpgroup have issued different products"));
}

TEST(EmulatedMma, MultipliesWhatLdmatrixBrings) {
  constexpr char kMultiply[] = R"(
#include "codegen/cuda/kernels/ptx.cuh"
using namespace harrier;
// d = a b^T + a c with a [16][16], b [16][16] by rows of k, c [16][16] by rows of n; then a and its transpose, stored.
extern "C" __global__ void __launch_bounds__(32) test(const unsigned short* in, float* d, unsigned short* again) {
  extern __shared__ __align__(1024) unsigned char memory[];
  unsigned short* values = reinterpret_cast<unsigned short*>(memory);
  for (int i = threadIdx.x; i < 768; i += 32) values[i] = in[i];
  __syncwarp();
  const int lane = threadIdx.x;
  const uint32 base = ptx::shared_address(memory);
  uint32 a[4], b[4], c[4];
  ptx::load_matrices(base + lane % 16 * 32 + lane / 16 * 16, a);
  ptx::load_matrices(base + 512 + (lane / 16 * 8 + lane % 8) * 32 + lane / 8 % 2 * 16, b);
  ptx::load_matrices_transposed(base + 1024 + lane % 16 * 32 + lane / 16 * 16, c);
  float sums[2][4] = {};
  for (int half = 0; half < 2; ++half) {
    ptx::mma<kBFloat16>(sums[half], a, b[2 * half], b[2 * half + 1]);
    ptx::mma<kBFloat16>(sums[half], a, c[2 * half], c[2 * half + 1]);
    for (int i = 0; i < 4; ++i) d[(lane / 4 + 8 * (i / 2)) * 16 + 8 * half + 2 * (lane % 4) + i % 2] = sums[half][i];
  }
  ptx::store_matrices(base + 2048 + lane % 16 * 32 + lane / 16 * 16, a[0], a[1], a[2], a[3]);
  ptx::store_matrices_transposed(base + 2560 + (lane % 8 + lane / 16 * 8) * 32 + lane / 8 % 2 * 16, a[0], a[1], a[2], a[3]);
  __syncwarp();
  for (int i = lane; i < 512; i += 32) again[i] = values[1024 + i];
}
)";
  for (const bool bfloat16 : {false, true}) {
    const Context context;
    const Module module(fmt::format("constexpr bool kBFloat16 = {};\n", bfloat16) + kMultiply);
    const Matrix all(48, 16, bfloat16, 5);
    const Buffer<std::uint16_t> in(all.bits), again(512);
    const Buffer<float> d(256);
    check(launch(module.kernel("test"), {1}, 32, 4096, in.data(), d.data(), again.data()));
    const auto found = d.download();
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 16; ++column) {
        double sum = 0;
        for (int k = 0; k < 16; ++k) sum += all.at(row, k) * (all.at(16 + column, k) + all.at(32 + k, column));
        EXPECT_NEAR(found[static_cast<std::size_t>(row * 16 + column)], sum, 1e-4) << row << ", " << column;
      }
    }
    const auto stored = again.download();
    for (std::size_t i = 0; i < 256; ++i) {
      EXPECT_EQ(stored[i], all.bits[i]);
      EXPECT_EQ(stored[256 + i], all.bits[i % 16 * 16 + i / 16]);
    }
  }
}

TEST(EmulatedNumbers, SixteenBitsRoundToNearestEven) {
  using namespace harrier_emulated;
  for (const bool bfloat16 : {false, true}) {
    const auto narrow = [&](float value) { return bfloat16 ? to_bfloat16(value) : to_float16(value); };
    const unsigned infinity = bfloat16 ? 0x7f80 : 0x7c00;
    for (unsigned bits = 0; bits <= infinity; ++bits) {
      const float value = from_16_bits(static_cast<unsigned short>(bits), bfloat16);
      ASSERT_EQ(narrow(value), bits);
      ASSERT_EQ(narrow(-value), bits | 0x8000u);
      if (bits + 1 >= infinity) continue;
      const float next = from_16_bits(static_cast<unsigned short>(bits + 1), bfloat16);
      const float middle = static_cast<float>((static_cast<double>(value) + next) / 2);
      ASSERT_EQ(narrow(middle), bits + bits % 2);
      ASSERT_EQ(narrow(std::nextafter(middle, 0.0f)), bits);
      ASSERT_EQ(narrow(std::nextafter(middle, INFINITY)), bits + 1);
    }
  }
}

}  // namespace
}  // namespace harrier::test
