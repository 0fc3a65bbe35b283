#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "codegen/cuda/emit_stub.h"
#include "codegen/cuda/segment_bounds.h"
#include "codegen/cuda/table_use.h"
#include "compiler/cuda/cuda_bound.h"
#include "compiler/harrier_cuda.h"
#include "ir/error.h"
#include "runtime/cuda/stream.h"

namespace harrier {
namespace {

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

int64_t element_bytes(ArraySlot::Element element) { return element == ArraySlot::Element::kUInt8 ? 1 : 4; }

int64_t longest_keys(const Geometry& geometry) {
  int64_t longest = 0;
  for (const Sequence& sequence : geometry.sequences) longest = std::max(longest, sequence.key_length);
  return longest;
}

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
  int64_t blocks = 0;  // of the block table that lists are built from
  int64_t offsets = 0;
  int64_t counts = 0;
};

/// A block table as kernels look it up: a count for each (row block, key block).
struct DenseTable {
  std::vector<uint8_t> counts;
  std::array<int64_t, 4> strides{};
};

DenseTable expand(const BlockLists& lists, int64_t most_keys) {
  const int64_t columns = std::max<int64_t>(1, (most_keys + lists.size - 1) / lists.size);
  DenseTable table;
  table.counts.resize(
      static_cast<size_t>(std::max<int64_t>(1, lists.batches * lists.heads * lists.row_blocks * columns)));
  table.strides = {lists.batches == 1 ? 0 : lists.heads * lists.row_blocks * columns,
                   lists.heads == 1 ? 0 : lists.row_blocks * columns, columns, 1};
  for (int64_t row = 0; row + 1 < std::ssize(lists.offsets); ++row) {
    for (int64_t i = lists.offsets[row]; i < lists.offsets[row + 1]; ++i) {
      if (lists.blocks[i] >= columns) continue;
      table.counts[static_cast<size_t>(row * columns + lists.blocks[i])] = static_cast<uint8_t>(lists.counts[i]);
    }
  }
  return table;
}

/// True where the ids of some documents fall inside a sequence.
bool has_falling_segments(const BoundPattern& pattern, const Geometry& geometry) {
  return std::ranges::any_of(pattern.segments, [&](const auto& entry) {
    return std::ranges::any_of(geometry.sequences, [&](const Sequence& sequence) {
      const int32_t* ids = entry.second + sequence.key_token;
      return !std::is_sorted(ids, ids + sequence.key_length);
    });
  });
}

/// "NAME.begin" or "NAME.end": where the segment of each key token begins or ends, as positions in its sequence.
std::vector<int32_t> segment_bounds(const CudaBound& bound, const std::string& array) {
  const bool begins = array.ends_with(kSegmentBegin);
  const size_t suffix = std::string_view(begins ? kSegmentBegin : kSegmentEnd).size();
  const int32_t* ids = bound.pattern.segments.at(array.substr(0, array.size() - suffix));
  std::vector<int32_t> bounds(static_cast<size_t>(std::max<int64_t>(bound.geometry.key_tokens, 1)));
  for (const Sequence& sequence : bound.geometry.sequences) {
    for (int64_t first = 0; first < sequence.key_length;) {
      int64_t last = first + 1;
      while (last < sequence.key_length && ids[sequence.key_token + last] == ids[sequence.key_token + first]) ++last;
      std::fill(bounds.begin() + sequence.key_token + first, bounds.begin() + sequence.key_token + last,
                static_cast<int32_t>(begins ? first : last));
      first = last;
    }
  }
  return bounds;
}

void add_arrays(CudaBound& bound, Upload& upload, Places& places) {
  const CudaCompilation& compilation = bound.code->compilation;
  const std::vector<ArraySlot>& slots = compilation.pattern.arrays;
  for (size_t i = 0; i < slots.size(); ++i) {
    const auto* data = static_cast<const std::byte*>(bound.pattern.arrays[i].data);
    places.arrays.push_back(upload.add(data, bound.pattern.array_elements[i] * element_bytes(slots[i].element)));
  }
  for (size_t i = slots.size(); i < compilation.lowered.arrays.size(); ++i) {
    places.arrays.push_back(upload.add(segment_bounds(bound, compilation.lowered.arrays[i].name)));
    bound.pattern.arrays.push_back({.data = nullptr, .strides = {1, 0, 0, 0}});
  }
  if (!looks_tables_up(compilation.lowered, compilation.plan)) return;
  // cuda_pattern puts the tables behind the pattern's own arrays, their block sizes behind its integers.
  for (const BlockLists& lists : bound.pattern.tables) {
    const DenseTable table = expand(lists, longest_keys(bound.geometry));
    places.arrays.push_back(upload.add(table.counts));
    BoundArray array{};
    std::ranges::copy(table.strides, array.strides);
    bound.pattern.arrays.push_back(array);
    bound.pattern.int_parameters.push_back(static_cast<int32_t>(lists.size));
  }
}

/// The table that lists are built from, where one is.
void add_table(const CudaBound& bound, Upload& upload, Places& places) {
  if (bound.pattern.tables.size() != 1) return;
  const BlockLists& lists = bound.pattern.tables.front();
  places.blocks = upload.add(lists.blocks);
  places.offsets = upload.add(lists.offsets);
  places.counts = upload.add(lists.counts);
}

BlockTable table_of(const CudaBound& bound, const Places& places) {
  BlockTable table{};
  const CudaCompilation& compilation = bound.code->compilation;
  if (bound.pattern.tables.size() != 1 || looks_tables_up(compilation.lowered, compilation.plan)) return table;
  const BlockLists& lists = bound.pattern.tables.front();
  const cuda::DevicePointer base = bound.arrays.pointer();
  table = {.data = at<void>(base, places.blocks),
           .offsets = at<void>(base, places.offsets),
           .counts = at<int>(base, places.counts),
           .batch_stride = lists.batches == 1 ? 0 : lists.heads * lists.row_blocks,
           .head_stride = lists.heads == 1 ? 0 : lists.row_blocks,
           .row_stride = 1,
           .kind = TableKind::kLists,
           .element_bytes = sizeof(int32_t),
           .offset_bytes = sizeof(int64_t),
           .block = static_cast<int>(lists.size),
           .random = 0,
           .counted = 1};
  return table;
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

void set_arguments(CudaBound& bound, const Places& places, cuda::DevicePointer base) {
  const BoundPattern& pattern = bound.pattern;
  for (size_t i = 0; i < pattern.arrays.size(); ++i) {
    bound.arguments.arrays[i].data = at<void>(base, places.arrays[i]);
    std::ranges::copy(pattern.arrays[i].strides, bound.arguments.arrays[i].strides);
  }
  set_numbers(bound);
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

void set_numbers(CudaBound& bound) {
  // Kernels count on parameters whose sums do not wrap.
  constexpr int32_t kMostInteger = 1 << 30;
  const BoundPattern& pattern = bound.pattern;
  for (size_t i = 0; i < pattern.int_parameters.size(); ++i) {
    bound.arguments.integers[i] = std::clamp(pattern.int_parameters[i], -kMostInteger, kMostInteger);
  }
  std::ranges::copy(pattern.float_parameters, bound.arguments.floats);
  const CudaCompilation& compilation = bound.code->compilation;
  if (const auto* additive = std::get_if<PaddingAdditive>(&compilation.workload.pattern.padding)) {
    bound.padding_score = kLog2OfE * static_cast<float>(additive->value);
  }
  const std::optional<int> folded = folded_scale(compilation.lowered, compilation.plan);
  bound.slope = folded ? pattern.float_parameters[static_cast<size_t>(*folded)] : 1.0F;
  bound.score_scale = kLog2OfE * bound.slope;
}

CudaBinding CudaKernel::bind(const Bindings& bindings, const Geometry& geometry, const CudaBindOptions& options) const {
  const CudaCompilation& compilation = code_->compilation;
  const Shape& shape = compilation.workload.shape;
  check_lengths(geometry, options.packed);
  if (options.schedule) verify(*options.schedule);
  auto bound = std::make_shared<CudaBound>();
  bound->code = code_;
  bound->geometry = geometry;
  bound->packed = options.packed;
  bound->schedule = options.schedule ? *options.schedule : schedule_for(*code_, geometry);
  bound->pattern = timed(bound->times, "bind", [&] {
    return harrier::bind(compilation.workload.pattern, shape, compilation.pattern, geometry,
                         without_needless(compilation.workload.pattern, compilation.array_names, bindings));
  });
  if (has_falling_segments(bound->pattern, geometry)) {
    bound->code = timed(bound->times, "compile for unsorted documents", [&] { return code_for_unsorted(code_); });
  }

  Upload upload;
  Places places;
  add_arrays(*bound, upload, places);
  add_lengths(*bound, upload, places);
  add_table(*bound, upload, places);
  bound->arrays =
      timed(bound->times, "upload", [&] { return cuda::copy_to_device(code_->gpu.device, upload.bytes()); });
  const cuda::DevicePointer base = bound->arrays.pointer();
  set_arguments(*bound, places, base);
  set_sequences(*bound, places, base);

  bound->build = plan_build(
      {.code = *bound->code,
       .pattern = bound->pattern,
       .arguments = bound->arguments,
       .sequences = bound->sequences,
       .schedule = bound->schedule,
       .table = table_of(*bound, places),
       .named_pairs = bound->pattern.tables.size() == 1 ? std::ssize(bound->pattern.tables.front().blocks) : 0,
       .batches = std::ssize(geometry.sequences),
       .query_tokens = options.packed ? geometry.query_tokens : bound->sequences.query_length,
       .key_tokens = options.packed ? geometry.key_tokens : bound->sequences.key_length,
       .most_keys = longest_keys(geometry),
       .packed = options.packed});
  cuda::OwnStream stream(code_->gpu.device);
  const cuda::CurrentContext current(*code_->gpu.device);
  bound->times.push_back({"build", stream.time([&] { enqueue_build(*bound->code, bound->build, stream.get()); })});
  if (bound->build.rows > 0) {
    cuda::copy_to_host(*code_->gpu.device, std::as_writable_bytes(std::span(&bound->built, 1)),
                       bound->build.memory.pointer());
  }
  if (bound->build.columns && bound->build.columns->columns > 0) {
    cuda::copy_to_host(*code_->gpu.device, std::as_writable_bytes(std::span(&bound->built_columns, 1)),
                       bound->build.columns->memory.pointer());
  }
  HARRIER_CHECK(bound->built.overflow == 0 && bound->built_columns.overflow == 0,
                "the lists of key boxes outgrew the room that their table allows");
  return bound;
}

double build_us(const CudaBinding& binding) { return binding->times.back().microseconds; }

}  // namespace harrier
