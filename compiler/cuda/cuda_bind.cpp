#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "codegen/cuda/emit_stub.h"
#include "compiler/cuda/cuda_code.h"
#include "compiler/cuda/key_lists.h"
#include "compiler/harrier_cuda.h"
#include "ir/error.h"
#include "ir/verify.h"

namespace harrier {
namespace {

constexpr int64_t kLongestSequence = int64_t{1} << 26;  // half of kRaggedTokens: coordinates stay in int32

/// Runs a step and remembers how long it took.
template <typename Step>
auto timed(std::vector<PassTime>& times, const char* name, Step&& step) {
  const auto start = std::chrono::steady_clock::now();
  auto result = step();
  const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
  times.push_back({name, spent.count()});
  return result;
}

void check_lengths(const Geometry& geometry, bool packed) {
  for (size_t b = 0; b < geometry.sequences.size(); ++b) {
    const Sequence& sequence = geometry.sequences[b];
    const int64_t longest = std::max(sequence.query_length, sequence.key_length);
    if (longest > kLongestSequence) {
      throw InvalidInput(
          fmt::format("sequence {} has {} tokens, CUDA kernels take up to {}: split it", b, longest, kLongestSequence));
    }
    const Sequence& first = geometry.sequences.front();
    if (!packed && (sequence.query_length != first.query_length || sequence.key_length != first.key_length)) {
      throw InvalidInput(
          fmt::format("sequence {} of a padded batch has extents {} and {}, sequence 0 has {} and {}: "
                      "pad them alike, or pack them",
                      b, sequence.query_length, sequence.key_length, first.query_length, first.key_length));
    }
  }
  constexpr int64_t kMostTokens = int64_t{1} << 31;
  if (std::max(geometry.query_tokens, geometry.key_tokens) >= kMostTokens) {
    throw InvalidInput(fmt::format("the batch has {} tokens, the limit is 2^31: split it",
                                   std::max(geometry.query_tokens, geometry.key_tokens)));
  }
}

/// What simplifying made needless may be bound all the same; a name that was never in the pattern may not.
Bindings needed(const CudaCompilation& compilation, const Bindings& bindings) {
  std::set<std::string> needless(compilation.array_names.begin(), compilation.array_names.end());
  for (const ArrayUse& use : array_uses(compilation.workload.pattern)) needless.erase(use.name);
  Bindings kept = bindings;
  for (const std::string& name : needless) kept.erase(name);
  return kept;
}

int64_t element_bytes(ArraySlot::Element element) { return element == ArraySlot::Element::kUInt8 ? 1 : 4; }

template <typename T>
const T* at(cuda::DevicePointer base, int64_t offset) {
  return reinterpret_cast<const T*>(base + static_cast<uint64_t>(offset));
}

/// Offsets of everything that goes to the device.
struct Places {
  std::vector<int64_t> arrays;
  int64_t cu_query = 0;
  int64_t cu_key = 0;
  int64_t query_valid = 0;
  int64_t key_valid = 0;
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int64_t partial_tiles = 0;
  int64_t entries = 0;
  int64_t order = 0;
  int64_t order_length = 0;
  int64_t split_rows = 0;
};

void add_arrays(const CudaBound& bound, Upload& upload, Places& places) {
  const std::vector<ArraySlot>& slots = bound.code->compilation.lowered.arrays;
  for (size_t i = 0; i < slots.size(); ++i) {
    const auto* data = static_cast<const std::byte*>(bound.pattern.arrays[i].data);
    places.arrays.push_back(upload.add(data, bound.pattern.array_elements[i] * element_bytes(slots[i].element)));
  }
}

void add_lengths(const CudaBound& bound, Upload& upload, Places& places) {
  std::vector<int32_t> cu_query = {0};
  std::vector<int32_t> cu_key = {0};
  std::vector<int32_t> query_valid;
  std::vector<int32_t> key_valid;
  for (const Sequence& sequence : bound.geometry.sequences) {
    cu_query.push_back(cu_query.back() + static_cast<int32_t>(sequence.query_length));
    cu_key.push_back(cu_key.back() + static_cast<int32_t>(sequence.key_length));
    query_valid.push_back(static_cast<int32_t>(sequence.query_valid));
    key_valid.push_back(static_cast<int32_t>(sequence.key_valid));
  }
  places.cu_query = upload.add(cu_query);
  places.cu_key = upload.add(cu_key);
  places.query_valid = upload.add(query_valid);
  places.key_valid = upload.add(key_valid);
}

/// Kernels count on parameters whose sums do not wrap.
void set_arguments(CudaBound& bound, const Places& places, cuda::DevicePointer base) {
  constexpr int32_t kMostInteger = 1 << 30;
  const BoundPattern& pattern = bound.pattern;
  for (size_t i = 0; i < pattern.int_parameters.size(); ++i) {
    bound.arguments.integers[i] = std::clamp(pattern.int_parameters[i], -kMostInteger, kMostInteger);
  }
  std::ranges::copy(pattern.float_parameters, bound.arguments.floats);
  for (size_t i = 0; i < pattern.arrays.size(); ++i) {
    bound.arguments.arrays[i].data = at<void>(base, places.arrays[i]);
    std::ranges::copy(pattern.arrays[i].strides, bound.arguments.arrays[i].strides);
  }
  const CudaCompilation& compilation = bound.code->compilation;
  const std::optional<int> folded = folded_scale(compilation.lowered, compilation.plan);
  bound.score_scale = kLog2OfE * (folded ? pattern.float_parameters[static_cast<size_t>(*folded)] : 1.0F);
}

void set_sequences(CudaBound& bound, const Places& places, cuda::DevicePointer base) {
  const std::vector<Sequence>& sequences = bound.geometry.sequences;
  if (bound.packed) {
    bound.sequences.cu_query = at<int>(base, places.cu_query);
    bound.sequences.cu_key = at<int>(base, places.cu_key);
    return;
  }
  bound.sequences.query_length = sequences.empty() ? 0 : static_cast<int>(sequences.front().query_length);
  bound.sequences.key_length = sequences.empty() ? 0 : static_cast<int>(sequences.front().key_length);
  bound.sequences.query_valid = at<int>(base, places.query_valid);
  bound.sequences.key_valid = at<int>(base, places.key_valid);
}

}  // namespace

CudaBinding CudaKernel::bind(const Bindings& bindings, const Geometry& geometry, const CudaBindOptions& options) const {
  const CudaCompilation& compilation = code_->compilation;
  const Shape& shape = compilation.workload.shape;
  const CudaPlan& plan = compilation.plan;
  check_lengths(geometry, options.packed);
  auto bound = std::make_shared<CudaBound>();
  bound->code = code_;
  bound->geometry = geometry;
  bound->packed = options.packed;
  bound->pattern = timed(bound->times, "bind", [&] {
    return harrier::bind(compilation.workload.pattern, shape, compilation.lowered, geometry,
                         needed(compilation, bindings));
  });
  const TileMap map = timed(bound->times, "classify_tiles", [&] {
    return classify_tiles(compilation.workload.pattern, shape, bound->pattern, geometry, query_tile_of(plan),
                          plan.box_rows);
  });
  bound->tiles = count_tiles(map, geometry, shape.heads);

  Upload upload;
  Places places;
  add_arrays(*bound, upload, places);
  add_lengths(*bound, upload, places);
  if (key_source_of(compilation.lowered) == CudaKeySource::kLists) {
    const HostKeyLists lists =
        timed(bound->times, "build_key_lists", [&] { return build_key_lists(map, geometry, plan.tile_k); });
    places.row_begin = upload.add(lists.row_begin);
    places.row_end = upload.add(lists.row_end);
    places.partial_tiles = upload.add(lists.partial_tiles);
    places.entries = upload.add(lists.entries);
    bound->lists.rows_per_head = lists.rows_per_head;
    bound->lists.rows_per_batch = lists.rows_per_batch;
  }
  const HostWorkOrder order = timed(bound->times, "order_work", [&] {
    const RowTiles rows = count_row_tiles(map, geometry, plan.tile_k);
    bound->query_tiles = rows.query_tiles;
    bound->schedule = options.schedule ? *options.schedule
                                       : choose_cuda_schedule(rows, shape, geometry, code_->shape.grid_x,
                                                              compilation.target.l2_bytes);
    return order_work(rows, geometry, shape.heads, query_tile_of(plan), bound->schedule);
  });
  bound->work_count = std::ssize(order.items);
  bound->split_row_count = std::ssize(order.split_rows);
  bound->split_slots = order.split_slots;
  places.order = upload.add(order.items);
  const std::vector<int32_t> counts = {static_cast<int32_t>(bound->work_count),
                                       static_cast<int32_t>(bound->split_row_count)};
  places.order_length = upload.add(counts);
  places.split_rows = upload.add(order.split_rows);

  bound->memory =
      timed(bound->times, "upload", [&] { return cuda::copy_to_device(code_->gpu.device, upload.bytes()); });
  const cuda::DevicePointer base = bound->memory.pointer();
  set_arguments(*bound, places, base);
  set_sequences(*bound, places, base);
  bound->lists.row_begin = at<int>(base, places.row_begin);
  bound->lists.row_end = at<int>(base, places.row_end);
  bound->lists.partial_tiles = at<int>(base, places.partial_tiles);
  bound->lists.entries = at<int>(base, places.entries);
  bound->order = at<WorkItem>(base, places.order);
  bound->order_length = at<int>(base, places.order_length);
  bound->split_count = bound->order_length + 1;
  bound->split_rows = at<SplitRow>(base, places.split_rows);
  return bound;
}

}  // namespace harrier
