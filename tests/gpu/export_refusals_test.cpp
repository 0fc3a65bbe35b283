// What exports refuse in C: what the library refuses in C++, in the same words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "exported_call.h"
#include "exported_library.h"
#include "ir/error.h"
#include "runtime/cuda/memory.h"
#include "test_gpu.h"

namespace harrier::test {
namespace {

using testing::HasSubstr;

TEST(GpuExport, WhatIsWrongIsOneLineAndACode) {
  const Tensors tensors;
  const cuda::DeviceMemory offsets = on_device(offsets_of({300, 212}));
  const cuda::DeviceMemory small = on_device(std::vector<int32_t>(4));
  ExportedLibrary exported({{.workload = named("table", blocks(64, "blocks") & causal())}}, own());
  CudaDeviceInputs inputs = packed_inputs(offsets, 2);
  const cuda::DeviceMemory table = on_device(std::vector<int32_t>(64));
  inputs.arrays["blocks"] = {.data = table.pointer(), .type = ElementType::kInt32, .shape = {8, 8}};
  const CCall right(exported, 0, inputs, tensors.views(0));
  const auto refusal = [&](const auto& change) {
    harrier_kernels_call call = right.call;
    harrier_kernels_array array = right.arrays.front();
    call.arrays = &array;
    change(call, array);
    harrier_kernels_error error{};
    const int code = exported.launch(exported.kernels(), &call, nullptr, &error);
    EXPECT_EQ(code, error.code);
    EXPECT_EQ(code, harrier_kernels_invalid_input) << error.message;
    EXPECT_EQ(std::string(error.message).find('\n'), std::string::npos);
    return std::string(error.message);
  };
  using Call = harrier_kernels_call;
  using Array = harrier_kernels_array;
  EXPECT_THAT(refusal([](Call& call, Array&) { call.workload = 7; }), HasSubstr("workload 7 is given, there are 1"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.array_count = 0; }), HasSubstr("@blocks of the pattern is not"));
  EXPECT_THAT(refusal([](Call&, Array& array) { array.name = "other"; }), HasSubstr("names no such array"));
  EXPECT_THAT(refusal([](Call&, Array& array) { array.type = harrier_kernels_float32; }), HasSubstr("float32"));
  EXPECT_THAT(refusal([](Call&, Array& array) { array.rank = 5; }), HasSubstr("@blocks has rank 5"));
  EXPECT_THAT(refusal([](Call&, Array& array) { array.shape[0] = 7; }), HasSubstr("the longest sequence needs 8"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.cu_query = 0; }), HasSubstr("cu_query"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.workspace_bytes -= 1; }), HasSubstr("the workspace has"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.workspace += 16; }), HasSubstr("a multiple of 256"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.q.token_stride = 12; }),
              HasSubstr("q has a stride of 12 elements"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.v.data += 8; }), HasSubstr("v starts at"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.batch = -1; }), HasSubstr("-1, expected 0 to 2^31 - 2"));
  EXPECT_THAT(refusal([](Call& call, Array&) { call.longest_key = int64_t{1} << 27; }), HasSubstr("134217728 tokens"));
  EXPECT_THAT(refusal([](Call&, Array& array) {
                static int on_host[64];
                array.data = reinterpret_cast<uint64_t>(on_host);
              }),
              HasSubstr("is not device memory: copy it to GPU 0"));
}

/// A mistake, made in otherwise right inputs and tensors.
struct Mistake {
  const char* said;  // some of what the library says
  std::function<void(CudaDeviceInputs&, CudaTensors&)> make;
};

class BothSides {
 public:
  BothSides(const Workload& workload, CudaDeviceInputs inputs)
      : kernel_(compile_cuda(workload, gpu())), exported_({{.workload = workload}}, own()), inputs_(std::move(inputs)) {
    EXPECT_EQ(of_library(inputs_, tensors_.views(0)), "no error");
  }

  void expect_same_words(const Mistake& mistake) {
    SCOPED_TRACE(mistake.said);
    CudaDeviceInputs inputs = inputs_;
    CudaTensors tensors = tensors_.views(inputs.packed ? 0 : inputs.longest_query);
    mistake.make(inputs, tensors);
    const std::string said = of_library(inputs, tensors);
    EXPECT_THAT(said, HasSubstr(mistake.said));
    EXPECT_EQ(of_export(inputs, tensors), said);
  }

 private:
  std::string of_library(const CudaDeviceInputs& inputs, const CudaTensors& tensors) const {
    try {
      kernel_.prepare(tensors, kernel_.bind_on_device(inputs));
    } catch (const InvalidInput& error) {
      return error.what();
    }
    return "no error";
  }

  std::string of_export(const CudaDeviceInputs& inputs, const CudaTensors& tensors) {
    std::vector<harrier_kernels_array> arrays;
    harrier_kernels_call call = call_of(0, inputs, tensors, arrays);
    harrier_kernels_error error{};
    if (exported_.workspace(exported_.kernels(), &call, &call.workspace_bytes, &error) != 0) return error.message;
    const cuda::DeviceMemory workspace(gpu().device, static_cast<int64_t>(call.workspace_bytes));
    call.workspace = workspace.pointer();
    const int code = exported_.launch(exported_.kernels(), &call, nullptr, &error);
    EXPECT_EQ(code, harrier_kernels_invalid_input);
    return error.message;
  }

  CudaKernel kernel_;
  ExportedLibrary exported_;
  CudaDeviceInputs inputs_;
  Tensors tensors_;
};

int on_host[64];
const uint64_t kHostAddress = reinterpret_cast<uint64_t>(on_host);

TEST(GpuExport, RefusesWhatTheLibraryRefusesInTheSameWords) {
  const cuda::DeviceMemory offsets = on_device(offsets_of({300, 212}));
  const cuda::DeviceMemory table = on_device(std::vector<int32_t>(2 * 64 + 1));
  CudaDeviceInputs inputs = packed_inputs(offsets, 2);
  inputs.arrays["blocks"] = {.data = table.pointer(), .type = ElementType::kInt32, .shape = {8, 8}};
  BothSides sides(named("table", blocks(64, "blocks") & causal()), inputs);
  using Inputs = CudaDeviceInputs;
  using Views = CudaTensors;
  const Mistake mistakes[] = {
      {"a batch or a number of tokens is -1", [](Inputs& in, Views&) { in.batch = -1; }},
      {"a batch or a number of tokens is 2147483647", [](Inputs& in, Views&) { in.key_tokens = INT32_MAX; }},
      {"the longest sequence has 134217728 tokens", [](Inputs& in, Views&) { in.longest_query = int64_t{1} << 27; }},
      {"needs cu_query on the device", [](Inputs& in, Views&) { in.cu_query = 0; }},
      {"an array of lengths at", [](Inputs& in, Views&) { in.cu_key = kHostAddress; }},
      {"an array of lengths starts at", [](Inputs& in, Views&) { in.cu_query += 2; }},
      {"@blocks of the pattern is not bound", [](Inputs& in, Views&) { in.arrays.clear(); }},
      {"names no such array", [](Inputs& in, Views&) { in.arrays["more"] = in.arrays["blocks"]; }},
      {"@blocks at 0x", [](Inputs& in, Views&) { in.arrays["blocks"].data = kHostAddress; }},
      {"@blocks starts at 0x", [](Inputs& in, Views&) { in.arrays["blocks"].data += 2; }},
      {"@blocks has elements of float32 on the device, expected uint8",
       [](Inputs& in, Views&) { in.arrays["blocks"].type = ElementType::kFloat32; }},
      {"@blocks has shape [3, 1, 8, 8] on the device; expected [2, 2, any, any]",
       [](Inputs& in, Views&) { in.arrays["blocks"].shape = {3, 1, 8, 8}; }},
      {"@blocks has shape [-1, 8]", [](Inputs& in, Views&) { in.arrays["blocks"].shape = {-1, 8}; }},
      {"@blocks has 7 row blocks, the longest sequence needs 8",
       [](Inputs& in, Views&) { in.arrays["blocks"].shape = {7, 8}; }},
      {"@blocks has 5 key blocks, the longest sequence needs 8",
       [](Inputs& in, Views&) { in.arrays["blocks"].shape = {8, 5}; }},
      {"q has a stride of 12 elements", [](Inputs&, Views& t) { t.q.token_stride = 12; }},
      {"out has a stride of -64 elements", [](Inputs&, Views& t) { t.out.head_stride = -64; }},
      {"k at 0x", [](Inputs&, Views& t) { t.k.data = kHostAddress / 16 * 16; }},
      {"v starts at 0x", [](Inputs&, Views& t) { t.v.data += 8; }},
      {"lse at 0x", [](Inputs&, Views& t) { t.lse.data = kHostAddress; }},
      {"lse starts at 0x", [](Inputs&, Views& t) { t.lse.data += 2; }},
  };
  for (const Mistake& mistake : mistakes) sides.expect_same_words(mistake);
  if (target_of(gpu()).architecture != "sm_90a") return;
  // Of the copy engine.
  sides.expect_same_words({"its stride from token to token is 2199023255552 bytes",
                           [](Inputs&, Views& t) { t.q.token_stride = int64_t{1} << 40; }});
  sides.expect_same_words(
      {"the copy engine takes up to", [](Inputs&, Views& t) { t.q.token_stride = int64_t{1} << 38; }});
}

TEST(GpuExport, RefusesMisshapenArraysOfScoresInTheSameWords) {
  const cuda::DeviceMemory valid = on_device(std::vector<int32_t>{256, 100});
  const cuda::DeviceMemory bias = on_device(std::vector<float>(256 * 256));
  const cuda::DeviceMemory slopes = on_device(std::vector<float>(kHeads));
  Workload workload = named("scores", causal());
  workload.pattern.score.bias = "bias";
  workload.pattern.score.alibi = "slopes";
  CudaDeviceInputs inputs;
  inputs.batch = 2;
  inputs.packed = false;
  inputs.longest_query = inputs.longest_key = kTokens / 2;
  inputs.query_valid = inputs.key_valid = valid.pointer();
  inputs.arrays["bias"] = {.data = bias.pointer(), .type = ElementType::kFloat32, .shape = {256, 256}};
  inputs.arrays["slopes"] = {.data = slopes.pointer(), .type = ElementType::kFloat32, .shape = {kHeads}};
  BothSides sides(workload, inputs);
  const Mistake mistakes[] = {
      {"@bias has shape [255, 256] on the device; expected [2, 2, 256, 256]",
       [](CudaDeviceInputs& in, CudaTensors&) { in.arrays["bias"].shape = {255, 256}; }},
      {"@slopes has shape [3] on the device; expected [2]",
       [](CudaDeviceInputs& in, CudaTensors&) { in.arrays["slopes"].shape = {3}; }},
      {"@slopes has elements of int32 on the device, expected float32",
       [](CudaDeviceInputs& in, CudaTensors&) { in.arrays["slopes"].type = ElementType::kInt32; }},
      {"an array of lengths starts at", [](CudaDeviceInputs& in, CudaTensors&) { in.key_valid += 1; }},
  };
  for (const Mistake& mistake : mistakes) sides.expect_same_words(mistake);
}

}  // namespace
}  // namespace harrier::test
