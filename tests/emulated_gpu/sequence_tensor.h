// For tests of kernels: 16-bit tensors of packed or padded sequences on the emulated GPU, as launches are handed them.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "device.h"
#include "number_formats.h"

// The kernels' parameters, as the host sees them.
#define __device__
#define __host__
#define __forceinline__ inline
namespace harrier {
inline float __int_as_float(unsigned bits) { return harrier_emulated::float_of(bits); }
}  // namespace harrier
#include "codegen/cuda/kernels/backward_params.cuh"

namespace harrier::test {

/// A tensor [batch, tokens, heads, columns] of 16-bit values on the device, and the same as floats. Tokens that no
/// sequence has are NaN.
struct Tensor {
  int tokens, heads, columns;
  bool bfloat16;
  std::vector<float> values;
  std::unique_ptr<Buffer<std::uint16_t>> device;

  Tensor(int batches, int tokens_, int heads_, int columns_, bool bfloat16_)
      : tokens(tokens_),
        heads(heads_),
        columns(columns_),
        bfloat16(bfloat16_),
        values(static_cast<std::size_t>(batches) * tokens_ * heads_ * columns_, NAN) {}

  float& at(int batch, int token, int head, int column) {
    return values[((static_cast<std::size_t>(batch) * tokens + token) * heads + head) * columns + column];
  }
  void fill(std::mt19937& random, int batch, int first, int count) {
    std::normal_distribution<float> normal;
    for (int token = first; token < first + count; ++token) {
      for (int i = 0; i < heads * columns; ++i) at(batch, token, 0, i) = rounded(normal(random));
    }
  }
  float rounded(float value) const { return harrier_emulated::from_16_bits(bits(value), bfloat16); }
  std::uint16_t bits(float value) const {
    return bfloat16 ? harrier_emulated::to_bfloat16(value) : harrier_emulated::to_float16(value);
  }
  void upload() {
    std::vector<std::uint16_t> words;
    for (const float value : values) words.push_back(bits(value));
    device = std::make_unique<Buffer<std::uint16_t>>(words.empty() ? std::vector<std::uint16_t>(1) : words);
  }
  void download() {
    const auto words = device->download();
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = harrier_emulated::from_16_bits(words[i], bfloat16);
  }
  TensorRows rows() const {
    const int64 token = int64{heads} * columns;
    return {device->data(), token * tokens, token, columns, columns};
  }
  TensorMap map(int batches, int box_tokens, int padded_columns) const {
    const int panel = padded_columns % 64 == 0 ? 64 : 32;
    const unsigned long long token = 2ull * heads * columns;
    const unsigned long long sizes[] = {static_cast<unsigned>(columns), kRaggedTokens, static_cast<unsigned>(heads),
                                        static_cast<unsigned>(tokens) + 1, static_cast<unsigned>(batches)};
    const unsigned long long strides[] = {token, 2ull * columns, token, batches > 1 ? token * tokens : 16};
    const unsigned box[] = {static_cast<unsigned>(panel), static_cast<unsigned>(box_tokens), 1, 1, 1};
    const unsigned steps[] = {1, 1, 1, 1, 1};
    CUtensorMap encoded;
    const auto address = reinterpret_cast<std::uintptr_t>(device->data()) - kRaggedTokens * token;
    check(cuTensorMapEncodeTiled(
        &encoded, bfloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 5,
        reinterpret_cast<void*>(address), sizes, strides, box, steps, 0, panel == 64 ? 3 : 2, 2, 0));
    TensorMap map;
    std::memcpy(&map, &encoded, sizeof map);
    return map;
  }
};

}  // namespace harrier::test
