// Gradients of every pattern on the GPU against the double-precision oracle, through the same calls that users make.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "compiler/cuda/cuda_bound.h"
#include "compiler/cuda/host_copies.h"
#include "ir/error.h"
#include "masks.h"
#include "runtime/cuda/stream.h"
#include "support/setting.h"
#include "test_gpu.h"

namespace harrier {
namespace {

using test::expect_gradients_match_the_oracle;
using test::Kernels;
using test::shape_of;
using test::workload_of;
using testing::HasSubstr;

struct BackwardMask {
  std::string name;
  Mask mask;
  Kernels kernels;
  bool slow;  // left out where not every case is taken: the two families take turns
  bool deterministic = false;
};

std::vector<BackwardMask> backward_masks() {
  std::vector<BackwardMask> cases;
  for (const test::NamedMask& named : test::masks()) {
    const bool turn = cases.size() % 2 == 0;
    cases.push_back({std::string(named.name) + "_own", named.mask, Kernels::kOwn, !turn});
    cases.push_back({std::string(named.name) + "_portable", named.mask, Kernels::kPortable, turn});
    cases.push_back({std::string(named.name) + "_deterministic", named.mask, Kernels::kOwn, true, true});
  }
  return cases;
}

void PrintTo(const BackwardMask& mask, std::ostream* out) { *out << mask.name; }

class GpuBackwardMasks : public testing::TestWithParam<BackwardMask> {};

TEST_P(GpuBackwardMasks, MatchTheOracleOnAwkwardLengths) {
  if (!test::is_thorough() && GetParam().slow) GTEST_SKIP() << "the other family covers it here";
  const std::vector<int64_t> lengths = {0, 1, 63, 64, 65, 127, 200};
  Shape shape = shape_of(2, 1, 64);
  shape.deterministic = GetParam().deterministic;
  expect_gradients_match_the_oracle(
      {workload_of(GetParam().mask, shape), packed_geometry(lengths, lengths), LayoutKind::kPacked, 7},
      GetParam().kernels);
}

INSTANTIATE_TEST_SUITE_P(All, GpuBackwardMasks, testing::ValuesIn(backward_masks()),
                         [](const auto& instance) { return instance.param.name; });

/// Both families where every case is taken, else the one whose turn it is.
void expect_gradients_in_turn(const AttentionCase& test, uint64_t turn) {
  const bool own = turn % 2 == 0;
  if (own || test::is_thorough()) expect_gradients_match_the_oracle(test, Kernels::kOwn);
  if (!own || test::is_thorough()) expect_gradients_match_the_oracle(test, Kernels::kPortable);
}

TEST(GpuBackward, TakesBatchesWithoutQueriesOrKeys) {
  uint64_t seed = 40;
  for (const auto& [queries, keys] : std::vector<std::pair<int64_t, int64_t>>{{0, 0}, {0, 9}, {9, 0}}) {
    for (const Kernels kernels : {Kernels::kOwn, Kernels::kPortable}) {
      expect_gradients_match_the_oracle(
          {workload_of(causal(), shape_of(2, 1, 64)), packed_geometry({queries}, {keys}), LayoutKind::kPacked, seed},
          kernels);
    }
    ++seed;
  }
}

TEST(GpuBackward, AlignsQueriesToTheEndOfLongerKeys) {
  uint64_t seed = 50;
  for (const Mask& mask : {causal(), window(20, 3), documents("segment")}) {
    expect_gradients_in_turn(
        {workload_of(mask, shape_of(1, 1, 64)),
         packed_geometry({1, 7, 65, 30, 5, 0, 200}, {100, 64, 130, 20, 0, 9, 333}), LayoutKind::kPacked, seed},
        seed);
    ++seed;
  }
}

class GpuBackwardHeadDims : public testing::TestWithParam<int64_t> {};

TEST_P(GpuBackwardHeadDims, MatchTheOracle) {
  const int64_t dim = GetParam();
  const std::vector<int64_t> some = {16, 80, 128, 192, 256};
  if (!test::is_thorough() && std::ranges::find(some, dim) == some.end()) GTEST_SKIP() << "others cover it here";
  expect_gradients_in_turn({workload_of(causal(), shape_of(1, 1, dim)), packed_geometry({150}, {150}),
                            LayoutKind::kPacked, static_cast<uint64_t>(dim)},
                           static_cast<uint64_t>(dim / 16));
}

INSTANTIATE_TEST_SUITE_P(MultiplesOf8, GpuBackwardHeadDims, testing::Range<int64_t>(16, 257, 8));

TEST(GpuBackward, AllowsTheValueHeadDimToDiffer) {
  uint64_t seed = 70;
  for (const auto& [head_dim, value_dim] :
       std::vector<std::pair<int64_t, int64_t>>{{192, 128}, {64, 256}, {256, 64}, {40, 72}}) {
    expect_gradients_in_turn({workload_of(window(30, 5), shape_of(2, 1, head_dim, value_dim)),
                              packed_geometry({190}, {190}), LayoutKind::kPacked, seed},
                             seed);
    ++seed;
  }
}

TEST(GpuBackward, SumsOverTheQueryHeadsThatShareAKeyHead) {
  for (const auto& [heads, kv_heads] : std::vector<std::pair<int64_t, int64_t>>{{8, 8}, {8, 2}, {8, 1}, {6, 3}}) {
    expect_gradients_in_turn({workload_of(blocks(64, "table") | causal(), shape_of(heads, kv_heads, 64)),
                              packed_geometry({100, 33}, {100, 33}), LayoutKind::kPacked, 11},
                             static_cast<uint64_t>(kv_heads));
  }
}

TEST(GpuBackward, ReadsAndWritesBothDtypesInEveryLayout) {
  uint64_t turn = 0;
  for (const DataType dtype : {DataType::kBFloat16, DataType::kFloat16}) {
    for (const LayoutKind layout : {LayoutKind::kPacked, LayoutKind::kBatchHeadLength, LayoutKind::kBatchLengthHead}) {
      Shape shape = shape_of(3, 3, 40, 56);
      shape.dtype = dtype;
      const bool packed = layout == LayoutKind::kPacked;
      const Geometry geometry = packed ? packed_geometry({130, 5}, {130, 5}) : padded_geometry(130, {130, 77, 0});
      expect_gradients_in_turn({workload_of(window(40, 8) | sink(2), shape), geometry, layout, 21}, turn++);
    }
  }
}

TEST(GpuBackward, GivesPaddingThatTakesPartGradientsToo) {
  uint64_t seed = 90;
  for (const Mask& mask : {all(), bigbird(64, 2, BigBirdTable{"random"}), window(100, 100)}) {
    Workload workload = workload_of(mask, shape_of(2, 2, 64));
    workload.pattern.padding = PaddingAdditive{-3.0};
    expect_gradients_in_turn({workload, padded_geometry(448, {448, 300, 65}), LayoutKind::kBatchHeadLength, seed},
                             seed);
    ++seed;
  }
}

TEST(GpuBackward, CountsPrunedKeysInTheDenominatorAlone) {
  uint64_t seed = 100;
  for (const Mask& mask : {causal(), blocks(64, "table")}) {
    Workload workload = workload_of(mask, shape_of(2, 1, 64));
    workload.pattern.softmax = SoftmaxPrunedAsZero{};
    expect_gradients_in_turn({workload, packed_geometry({70, 200}, {70, 200}), LayoutKind::kPacked, seed}, seed);
    ++seed;
  }
}

/// Scores with every step, and what they and the softmax learn.
std::vector<Workload> learned_workloads() {
  std::vector<Workload> workloads;
  for (const char* text : {
           "attention a { heads 4 kv_heads 2 head_dim 64 dtype bf16 mask causal score scale(0.2) softcap(5) "
           "alibi(@slopes) "
           "lengths fixed(256) }",
           "attention b { heads 2 head_dim 64 dtype bf16 mask window(60, 20) score bias(@table) lengths fixed(256) }",
           "attention c { heads 2 head_dim 64 dtype bf16 mask causal softmax sink_logit(@sinks) lengths fixed(256) }",
           "attention d { heads 2 head_dim 64 dtype bf16 mask causal score score(s * @by_head[h] + @by_query[q % 16] - "
           "@by_key[k % 7] * tanh(s)) lengths fixed(256) }",
       }) {
    workloads.push_back(parse_workload(text));
  }
  return workloads;
}

class GpuBackwardLearned : public testing::TestWithParam<int> {};

TEST_P(GpuBackwardLearned, ArraysHaveGradients) {
  const Workload workload = learned_workloads()[static_cast<size_t>(GetParam())];
  expect_gradients_in_turn({workload, packed_geometry({100, 37, 64}, {100, 37, 64}), LayoutKind::kPacked, 110},
                           static_cast<uint64_t>(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(All, GpuBackwardLearned, testing::Range(0, 4));

TEST(GpuBackward, SplitsHeavyColumnsAndRows) {
  const CudaSchedule schedule{.heads_per_group = 1, .split_tiles = 1, .split_capacity = 40};
  uint64_t seed = 120;
  for (const Mask& mask : {causal(), window(16, 16) | global_tokens(2), blocks(64, "table")}) {
    for (const Kernels kernels : {Kernels::kOwn, Kernels::kPortable}) {
      if (!test::is_thorough() && (seed % 2 == 0) != (kernels == Kernels::kOwn)) continue;
      expect_gradients_match_the_oracle(
          {workload_of(mask, shape_of(2, 1, 64)), packed_geometry({400, 3}, {400, 3}), LayoutKind::kPacked, seed},
          kernels, {}, schedule);
    }
    ++seed;
  }
}

/// The bits of a [tokens, heads, dim] tensor of 16-bit numbers.
std::vector<uint16_t> bits_of(const TensorView& view) {
  std::vector<uint16_t> bits;
  for (int64_t token = 0; token < view.shape[0]; ++token) {
    for (int64_t head = 0; head < view.shape[1]; ++head) {
      const auto* row = static_cast<const uint16_t*>(view.data) + token * view.strides[0] + head * view.strides[1];
      bits.insert(bits.end(), row, row + view.shape[2]);
    }
  }
  return bits;
}

/// Runs the case a thousand times. On the emulated GPU a few, of which each interleaves CTAs in another way.
void expect_the_same_bits_again(const AttentionCase& test, Kernels kernels,
                                const std::optional<CudaSchedule>& schedule = {}) {
  SCOPED_TRACE(describe(test) + test::architecture_of(kernels));
  AttentionCase backward = test;
  backward.workload.shape.direction = Direction::kBackward;
  const CudaKernel kernel = test::compile_for(backward, kernels, {});
  const int runs = test::is_emulated() ? 3 : 1000;
  const BackwardErrors errors = run_backward_case(
      test, [&](const AttentionTensors& tensors, const AttentionGradients& gradients, const Bindings& bindings) {
        std::vector<uint16_t> first;
        for (int run = 0; run < runs; ++run) {
          const Setting together("HARRIER_EMULATED_TOGETHER", "4");
          const Setting seed("HARRIER_EMULATED_SEED", std::to_string(run + 1).c_str());
          kernel.run_backward(tensors, gradients, bindings, {}, schedule);
          std::vector<uint16_t> bits;
          for (const TensorView* view : {&gradients.d_q, &gradients.d_k, &gradients.d_v}) {
            const std::vector<uint16_t> more = bits_of(*view);
            bits.insert(bits.end(), more.begin(), more.end());
          }
          if (run == 0) first = bits;
          ASSERT_EQ(bits, first) << "run " << run;
        }
      });
  test::expect_gradients_are_right(test, errors);
}

TEST(GpuBackward, OfThePortableFamilyGivesTheSameBitsAgain) {
  expect_the_same_bits_again({workload_of(window(90, 0) | sink(3), shape_of(4, 2, 64)),
                              packed_geometry({200, 129}, {200, 129}), LayoutKind::kPacked, 130},
                             Kernels::kPortable);
}

class GpuBackwardDeterministic : public testing::TestWithParam<int> {
 protected:
  /// Closed forms and lists; of one and of two warpgroups a key tile, through shared memory and from registers.
  static AttentionCase backward_case(int number) {
    struct Case {
      Mask mask;
      int64_t head_dim;
    };
    const Case cases[] = {{window(90, 0) | sink(3), 64},
                          {blocks(64, "table"), 64},
                          {causal() & documents("segment"), 128},
                          {blocks(128, "table") | causal(), 128},
                          {window(60, 60), 256}};
    const auto& [mask, head_dim] = cases[number];
    Shape shape = shape_of(4, 2, head_dim);
    shape.deterministic = true;
    const std::vector<int64_t> lengths = {330, 0, 129};
    return {workload_of(mask, shape), packed_geometry(lengths, lengths), LayoutKind::kPacked,
            static_cast<uint64_t>(150 + number)};
  }
};

TEST_P(GpuBackwardDeterministic, GivesTheSameBitsAgain) {
  if (!test::is_thorough() && GetParam() != 0) GTEST_SKIP() << "others cover it here";
  expect_the_same_bits_again(backward_case(GetParam()), Kernels::kOwn);
}

TEST_P(GpuBackwardDeterministic, GivesTheSameBitsAgainInParts) {
  if (!test::is_thorough() && GetParam() != 1) GTEST_SKIP() << "others cover it here";
  const CudaSchedule schedule{.heads_per_group = 2, .split_tiles = 1, .split_capacity = 60};
  expect_the_same_bits_again(backward_case(GetParam()), Kernels::kOwn, schedule);
}

INSTANTIATE_TEST_SUITE_P(All, GpuBackwardDeterministic, testing::Range(0, 5));

/// Lengths and arrays on the device, as a training loop has them; launched twice, since each launch builds anew.
void run_on_device(const CudaKernel& kernel, const AttentionTensors& tensors, const AttentionGradients& gradients,
                   const Bindings& bindings) {
  const cuda::DeviceHandle& device = test::gpu().device;
  const std::vector<int32_t> offsets(tensors.cu_seqlens.begin(), tensors.cu_seqlens.end());
  const cuda::DeviceMemory cu_seqlens = cuda::copy_to_device(device, std::as_bytes(std::span(offsets)));
  const int64_t tokens = offsets.back();
  int64_t longest = 0;
  for (size_t i = 1; i < offsets.size(); ++i) longest = std::max<int64_t>(longest, offsets[i] - offsets[i - 1]);
  CudaDeviceInputs inputs{.batch = std::ssize(offsets) - 1,
                          .query_tokens = tokens,
                          .key_tokens = tokens,
                          .longest_query = longest,
                          .longest_key = longest,
                          .cu_query = cu_seqlens.pointer()};
  std::vector<cuda::DeviceMemory> arrays;
  for (const auto& [name, view] : bindings) {
    const std::span bytes(static_cast<const std::byte*>(view.data),
                          static_cast<size_t>(element_count(view.shape) * bytes_of(view.type)));
    arrays.push_back(cuda::copy_to_device(device, bytes));
    inputs.arrays[name] = {.data = arrays.back().pointer(), .type = view.type, .shape = view.shape};
  }
  const CudaBinding bound = kernel.bind_on_device(inputs);
  const cuda::CurrentContext current(*device);
  const DeviceTensor q = upload(device, tensors.q, true), k = upload(device, tensors.k, true);
  const DeviceTensor v = upload(device, tensors.v, true), out = upload(device, tensors.out, true);
  const DeviceLse lse = upload_lse(device, tensors.lse, true);
  const DeviceTensor d_out = upload(device, gradients.d_out, true), d_q = make_room(device, gradients.d_q, true);
  const DeviceTensor d_k = make_room(device, gradients.d_k, true), d_v = make_room(device, gradients.d_v, true);
  const CudaLaunch launch =
      kernel.prepare_backward({q.tensor, k.tensor, v.tensor, out.tensor, lse.rows},
                              {.d_out = d_out.tensor, .d_q = d_q.tensor, .d_k = d_k.tensor, .d_v = d_v.tensor}, bound);
  cuda::OwnStream stream(device);
  for (int i = 0; i < 2; ++i) launch.enqueue(stream.get());
  stream.synchronize();
  download(*device, d_q, gradients.d_q, true);
  download(*device, d_k, gradients.d_k, true);
  download(*device, d_v, gradients.d_v, true);
}

TEST(GpuBackward, BuildsColumnsAnewWhereLengthsAreOnTheDevice) {
  uint64_t seed = 140;
  for (const Mask& mask : {blocks(64, "table"), window(70, 20)}) {
    for (const Kernels kernels : {Kernels::kOwn, Kernels::kPortable}) {
      if (!test::is_thorough() && (seed % 2 == 0) != (kernels == Kernels::kOwn)) continue;
      const AttentionCase test{workload_of(mask, shape_of(2, 1, 64)), packed_geometry({130, 0, 64, 1}, {130, 0, 64, 1}),
                               LayoutKind::kPacked, seed};
      SCOPED_TRACE(describe(test));
      Workload workload = test.workload;
      workload.shape.direction = Direction::kBackward;
      const CudaKernel kernel = compile_cuda(workload, test::gpu(), {.architecture = test::architecture_of(kernels)});
      test::expect_gradients_are_right(
          test, run_backward_case(
                    test, [&](const AttentionTensors& tensors, const AttentionGradients& gradients,
                              const Bindings& bindings) { run_on_device(kernel, tensors, gradients, bindings); }));
    }
    ++seed;
  }
}

TEST(GpuBackward, TakesMemoryInProportionToTheTokens) {
  constexpr int64_t kHeads = 2, kDim = 64, kLength = 1 << 16;
  struct Case {
    const char* architecture;
    bool deterministic;
  };
  for (const auto& [architecture, deterministic] : {Case{"sm_90a", false}, {"sm_90a", true}, {"sm_90", false}}) {
    Workload workload = workload_of(causal(), shape_of(kHeads, kHeads, kDim));
    workload.shape.direction = Direction::kBackward;
    workload.shape.deterministic = deterministic;
    const CudaKernel kernel = compile_cuda(workload, test::gpu(), {.architecture = architecture});
    const CudaSchedule schedule{.heads_per_group = 1, .split_tiles = 0, .split_capacity = 0};
    const CudaBinding bound =
        kernel.bind({}, packed_geometry({kLength}, {kLength}), {.packed = true, .schedule = schedule});
    // LSE, delta, and sums of dQ in fp32; 64 bytes a row and a column of 64. A byte for each pair would be 4 GiB.
    const int64_t rows = 2 * kHeads * kLength / 64;
    EXPECT_LT(bound->build.memory.bytes() + bound->build.columns->memory.bytes(), 64 * rows + 8192) << architecture;
    const cuda::DeviceMemory memory(test::gpu().device, kHeads * kLength * kDim * 2);
    const cuda::DeviceMemory lse(test::gpu().device, kHeads * kLength * 4);
    const CudaTensor tensor{
        .data = memory.pointer(), .batch_stride = 0, .token_stride = kHeads * kDim, .head_stride = kDim};
    const CudaTensors tensors{tensor, tensor, tensor, tensor, {.data = lse.pointer(), .head_stride = kLength}};
    const CudaLaunch launch = kernel.prepare_backward(tensors, {tensor, tensor, tensor, tensor}, bound);
    // And of deterministic kernels a counter for each of two warpgroups and a query tile.
    const int64_t counters = deterministic ? 2 * 4 * rows : 0;
    EXPECT_LT(launch.workspace_bytes(), kHeads * (kLength + 128) * (8 + 4 * kDim) + counters + 8192) << architecture;
    EXPECT_GE(launch.workspace_bytes(),
              kHeads * kLength * (8 + (architecture[5] == 'a' ? 4 * kDim : 0)) + counters / 4);
  }
}

TEST(GpuBackward, RefusesDeterministicGradientsOfArrays) {
  Workload workload = learned_workloads()[1];
  workload.shape.direction = Direction::kBackward;
  workload.shape.deterministic = true;
  const CudaKernel kernel = compile_cuda(workload, test::gpu(), {.architecture = "sm_90"});
  const std::vector<float> table(2 * 8 * 8);
  const CudaBinding bound =
      kernel.bind({{"table", {.data = table.data(), .type = ElementType::kFloat32, .shape = {1, 2, 8, 8}}}},
                  packed_geometry({8}, {8}));
  const cuda::DeviceMemory memory(test::gpu().device, 8 * 2 * 64 * 2);
  const CudaTensor tensor{.data = memory.pointer(), .batch_stride = 0, .token_stride = 2 * 64, .head_stride = 64};
  const CudaTensors tensors{tensor, tensor, tensor, tensor, {.data = memory.pointer(), .head_stride = 8}};
  const CudaGradients gradients{tensor, tensor, tensor, tensor, {{"table", memory.pointer()}}};
  EXPECT_THAT(
      [&] { kernel.prepare_backward(tensors, gradients, bound); },
      testing::ThrowsMessage<InvalidInput>(HasSubstr("the gradient of @table is summed in the order of arrival")));
}

TEST(GpuBackward, RefusesWhatHasNoGradient) {
  Workload workload = workload_of(causal() & documents("segment"), shape_of(1, 1, 64));
  workload.shape.direction = Direction::kBackward;
  const CudaKernel kernel = compile_cuda(workload, test::gpu(), {.architecture = "sm_90"});
  const std::vector<int32_t> ids(8, 0);
  const CudaBinding bound = kernel.bind({{"segment", {.data = ids.data(), .type = ElementType::kInt32, .shape = {8}}}},
                                        packed_geometry({8}, {8}));
  EXPECT_THAT([&] { kernel.prepare({}, bound); },
              testing::ThrowsMessage<InvalidInput>(HasSubstr("direction backward; call prepare_backward")));
}

}  // namespace
}  // namespace harrier
