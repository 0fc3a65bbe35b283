// Exported kernels, called from C, give the bits that the library's own launches give.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "exported_call.h"
#include "exported_library.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/stream.h"
#include "test_gpu.h"

namespace harrier::test {
namespace {

using testing::HasSubstr;

/// The workload, exported, and the library's kernel on the same inputs.
void expect_same_bits(const Workload& workload, const CudaDeviceInputs& inputs) {
  const Tensors tensors;
  const Results expected = run_library(compile_cuda(workload, gpu()), inputs, tensors, kTokens);
  ExportedLibrary exported({{.workload = workload}}, own());
  const CCall call(exported, 0, inputs, tensors.views(inputs.packed ? 0 : inputs.longest_query));
  EXPECT_EQ(run_exported(exported, call, tensors, kTokens), expected);
}

TEST(GpuExport, AWindowGivesTheLibrarysBitsWhateverTheLengths) {
  const CudaKernel kernel = compile_cuda(window_workload(), gpu());
  const Tensors tensors;
  const std::vector<std::vector<int64_t>> batches = {{200, 0, 300}, {1, 63, 65}, {512, 0, 0}, {0, 0, 0}};
  const cuda::DeviceMemory offsets = on_device(offsets_of(batches.front()));
  const CudaDeviceInputs inputs = packed_inputs(offsets, 3);
  ExportedLibrary exported({{.workload = window_workload()}}, own());
  const CCall call(exported, 0, inputs, tensors.views(0));
  for (const std::vector<int64_t>& lengths : batches) {
    SCOPED_TRACE(testing::PrintToString(lengths));
    overwrite(offsets, offsets_of(lengths));
    const int64_t tokens = offsets_of(lengths).back();
    EXPECT_EQ(run_exported(exported, call, tensors, tokens), run_library(kernel, inputs, tensors, tokens));
  }
}

TEST(GpuExport, ABlockTableOfEachHeadGivesTheLibrarysBits) {
  const cuda::DeviceMemory offsets = on_device(offsets_of({300, 212}));
  std::mt19937_64 random(kSeed);
  std::vector<int32_t> table(kHeads * 8 * 8);
  for (int32_t& entry : table) entry = random() % 3 == 0 ? 1 : 0;
  const cuda::DeviceMemory device_table = on_device(table);
  const Workload workload = named("table", blocks(64, "blocks") & causal());
  CudaDeviceInputs inputs = packed_inputs(offsets, 2, 300);
  inputs.arrays["blocks"] = {.data = device_table.pointer(), .type = ElementType::kInt32, .shape = {kHeads, 8, 8}};
  expect_same_bits(workload, inputs);
  // The same table for both heads: then they share their lists.
  inputs.arrays["blocks"].shape = {8, 8};
  expect_same_bits(workload, inputs);
}

TEST(GpuExport, DocumentsGiveTheLibrarysBits) {
  const cuda::DeviceMemory offsets = on_device(offsets_of({130, 382}));
  std::vector<int32_t> ids(kTokens);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * i % 7 < 3 ? i / 100 : i / 60);
  const cuda::DeviceMemory device_ids = on_device(ids);
  CudaDeviceInputs inputs = packed_inputs(offsets, 2);
  inputs.arrays["ids"] = {.data = device_ids.pointer(), .type = ElementType::kInt32, .shape = {kTokens}};
  expect_same_bits(named("documents", documents("ids") & causal()), inputs);
}

TEST(GpuExport, APaddedBatchGivesTheLibrarysBits) {
  const cuda::DeviceMemory valid = on_device(std::vector<int32_t>{256, 100});
  CudaDeviceInputs inputs;
  inputs.batch = 2;
  inputs.packed = false;
  inputs.longest_query = inputs.longest_key = kTokens / 2;
  inputs.query_valid = inputs.key_valid = valid.pointer();
  expect_same_bits(causal_workload(), inputs);
}

TEST(GpuExport, SplitRowsGiveTheLibrarysBits) {
  const cuda::DeviceMemory offsets = on_device(offsets_of({kTokens}));
  const CudaDeviceInputs inputs = packed_inputs(offsets, 1);
  const Tensors tensors;
  const CudaSchedule splitting = {.heads_per_group = 2, .split_tiles = 2, .split_capacity = 32};
  const CudaKernel kernel = compile_cuda(causal_workload(), gpu());
  const Results expected = run_library(kernel, inputs, tensors, kTokens, {.packed = true, .schedule = splitting});
  // Parts add up in another order than whole rows: were the bits the same, nothing would have been split.
  const Results whole = run_library(kernel, inputs, tensors, kTokens, {.packed = true, .schedule = CudaSchedule{}});
  ASSERT_NE(expected.out, whole.out);
  const ExportCandidate candidate = {
      .architecture = own().front(), .plan = kernel.compilation().plan, .schedule = splitting};
  ExportedLibrary exported({{.workload = causal_workload(), .candidates = {candidate}}}, own());
  const CCall call(exported, 0, inputs, tensors.views(0));
  EXPECT_EQ(run_exported(exported, call, tensors, kTokens), expected);
  EXPECT_THAT(exported.choice(exported.kernels(), &call.call), HasSubstr("rows past 2 key tiles split"));
}

TEST(GpuExport, ALaunchInAGraphSeesNewLengths) {
  const Tensors tensors;
  const cuda::DeviceMemory offsets = on_device(offsets_of({100, 412}));
  const CudaDeviceInputs inputs = packed_inputs(offsets, 2);
  const CudaKernel kernel = compile_cuda(causal_workload(), gpu());
  ExportedLibrary exported({{.workload = causal_workload()}}, own());
  const CCall call(exported, 0, inputs, tensors.views(0));
  const cuda::CurrentContext current(*gpu().device);
  const cuda::Driver& driver = gpu().device->driver();
  const cuda::OwnStream stream(gpu().device);
  cuda::Graph graph = nullptr;
  cuda::GraphExec exec = nullptr;
  ASSERT_EQ(driver.stream_begin_capture(stream.get(), 0), cuda::kSuccess);
  launch(exported, call, stream.get());
  ASSERT_EQ(driver.stream_end_capture(stream.get(), &graph), cuda::kSuccess);
  ASSERT_EQ(driver.graph_instantiate(&exec, graph, 0), cuda::kSuccess);
  overwrite(offsets, offsets_of({256, 256}));
  tensors.clear();
  ASSERT_EQ(driver.graph_launch(exec, stream.get()), cuda::kSuccess);
  stream.synchronize();
  const Results found = tensors.read(kTokens);
  EXPECT_EQ(found, run_library(kernel, inputs, tensors, kTokens));
  driver.graph_exec_destroy(exec);
  driver.graph_destroy(graph);
}

}  // namespace
}  // namespace harrier::test
