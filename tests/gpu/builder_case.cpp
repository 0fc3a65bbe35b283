#include "builder_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <stdexcept>

#include "builder_tables.h"
#include "codegen/cuda/emit_builder.h"
#include "codegen/cuda/kernel_files.h"
#include "codegen/cuda/segment_bounds.h"
#include "codegen/cuda/table_use.h"
#include "compiler/bind.h"
#include "compiler/passes/choose_plan.h"
#include "compiler/passes/lower_pattern.h"
#include "ir/match.h"
#include "ir/text.h"
#include "runtime/cuda/module.h"
#include "runtime/cuda/nvrtc.h"
#include "support/random_draws.h"
#include "test_gpu.h"

namespace harrier::test {
namespace {

constexpr int kThreads = 256;

/// Walks rows as kernels do and counts pairs as their tiles do: what a tile without a mask holds counts once.
constexpr const char* kReader = R"(
namespace harrier {
template <int kIndex>
__device__ bool in_intervals(const Position& at, int query, int key) {
  const Interval keys = Mask::template interval<kIndex>(at, query), queries = Mask::template queries<kIndex>(at);
  const bool inside = keys.begin <= key && key < keys.end && queries.begin <= query && query < queries.end;
  if constexpr (kIndex + 1 < Mask::kIntervals) return inside || in_intervals<kIndex + 1>(at, query, key);
  return inside;
}

__device__ int times_in_mask(const Position& at, int query, int key, int count) {
  int times = Mask::kCounted ? count : 1;
  if constexpr (Mask::kKind == MaskKind::kPredicate) times = Mask::visible(at, query, key, count);
  if constexpr (Mask::kKind == MaskKind::kIntervals) times = in_intervals<0>(at, query, key);
  return Mask::kCounted ? times : times != 0;
}
}  // namespace harrier

extern "C" __global__ void read_rows(const __grid_constant__ harrier::OrderParams params, int* counts, int keys) {
  using namespace harrier;
  constexpr int kBoxes = Config::kTileK / Config::kBoxRows;
  const int place = blockIdx.x, head = blockIdx.y;
  const RowPlace where = row_at<Config>(params.sequences, params.rows_per_batch, params.batches, place);
  const RowWork row = describe_row<Config>(params.sequences, {where.tile, head, where.batch, 0, 0, -1});
  const int query_end = smaller(row.query_begin + Config::kTileQ, row.query_valid);
  if (row.query_begin >= query_end) return;
  const Position at = position_of(params.arguments, row);
  KeySource<Config, Mask> source(at, params.lists, where.tile, row.query_begin, query_end, threadIdx.x);
  const TileCounts tiles = source.count();
  if (tiles.partial + tiles.full > 0) source.start(0);
  for (int i = 0; i < (tiles.partial + tiles.full) * kBoxes; ++i) {
    const uint32 entry = static_cast<uint32>(source.next());
    if (threadIdx.x != 0 || (entry & kNoBox) == kNoBox) continue;
    const bool partial = i / kBoxes < tiles.partial;
    for (int query = row.query_begin; query < query_end; ++query) {
      for (int j = 0; j < Config::kBoxRows; ++j) {
        const int key = static_cast<int>(entry & kNoBox) * Config::kBoxRows + j;
        if (partial && key >= walked_keys<Mask>(at)) continue;
        const int times = partial ? times_in_mask(at, query, key, (1 + static_cast<int>(entry >> 24)) & 0xff) : 1;
        counts[((head * params.rows_per_head + place) * Config::kTileQ + query - row.query_begin) * keys + key] += times;
      }
    }
  }
}
)";

std::vector<char> compile(const std::string& source) {
  std::vector<cuda::IncludedFile> includes;
  for (const KernelFile& file : kernel_files()) includes.push_back({.name = file.name, .text = file.text});
  return cuda::compile(
             gpu().nvrtc,
             {.text = source, .includes = includes, .architecture = cuda::architecture_of(gpu().device->facts())})
      .image;
}

struct Grid {
  int64_t x;
  int64_t y = 1;
};

/// One kernel with one parameter, and what else the reader has.
template <typename... Parameters>
void launch(const cuda::LoadedModule& module, const char* name, Grid grid, unsigned threads, int64_t shared_bytes,
            Parameters... values) {
  void* parameters[] = {static_cast<void*>(&values)...};
  const cuda::LaunchShape shape{.grid_x = static_cast<unsigned>(grid.x),
                                .grid_y = static_cast<unsigned>(grid.y),
                                .threads = threads,
                                .shared_bytes = shared_bytes};
  cuda::enqueue(*gpu().device, module.function(name, shared_bytes), shape, parameters, nullptr);
}

/// Whether each block atom counts, in slot order.
void list_counted(const Mask& mask, std::vector<bool>& counted) {
  match(
      mask.node, [&](const Blocks& blocks) { counted.push_back(blocks.counted); },
      [&](const BigBird&) { counted.push_back(true); },
      [&](const And& node) {
        for (const Mask& operand : node.operands) list_counted(operand, counted);
      },
      [&](const Or& node) {
        for (const Mask& operand : node.operands) list_counted(operand, counted);
      },
      [&](const Not& node) { list_counted(*node.operand, counted); }, [](const auto&) {});
}

/// Everything of one case that is on the device.
class Builder {
 public:
  explicit Builder(const BuilderCase& test)
      : test_(test),
        lowered_(lower_pattern(test.pattern, test.shape)),
        bound_(harrier::bind(test.pattern, test.shape, lowered_, test.geometry, test.bindings)) {
    if (test.sorted_documents) lowered_ = bound_segments(lowered_);
    prepared_ = cuda_pattern(lowered_, test.plan);
    source_ = emit_cuda_builder(lowered_, test.shape, test.plan) + kReader;
  }

  BuiltRows run() {
    const cuda::CurrentContext context(*gpu().device);
    const cuda::LoadedModule module(gpu().device, compile(source_));
    set_sequences();
    set_arguments();
    fill_segment_bounds(module);
    BuiltRows built;
    built.lists = key_source_of(prepared_) == CudaKeySource::kLists;
    built.row_queries = row_queries(test_.plan);
    state_ = memory_.make<BuildState>(1, 0);
    std::vector<bool> counted;
    list_counted(test_.pattern.mask, counted);
    if (looks_tables_up(lowered_, test_.plan)) expand_tables(module, counted);
    places_ = static_cast<int>(list_rows(shape(), test_.plan));
    rows_per_batch_ = test_.packed ? kPackedRows : places_ / std::max(batches(), 1);
    built.rows_per_batch = rows_per_batch_;
    if (built.lists) build_lists(module, counted, built);
    build_order(module, built);
    return built;
  }

 private:
  int batches() const { return static_cast<int>(test_.geometry.sequences.size()); }
  int heads() const { return static_cast<int>(test_.shape.heads); }

  BuilderShape shape() const {
    int64_t most_keys = 0;
    for (const Sequence& sequence : test_.geometry.sequences) most_keys = std::max(most_keys, sequence.key_length);
    return {.batches = batches(),
            .query_tokens = test_.packed ? test_.geometry.query_tokens : test_.geometry.sequences[0].query_length,
            .most_keys = most_keys,
            .packed = test_.packed};
  }

  void set_sequences() {
    const std::vector<Sequence>& all = test_.geometry.sequences;
    std::vector<int> cu_query = {0}, cu_key = {0}, query_valid, key_valid;
    for (const Sequence& sequence : all) {
      cu_query.push_back(cu_query.back() + static_cast<int>(sequence.query_length));
      cu_key.push_back(cu_key.back() + static_cast<int>(sequence.key_length));
      query_valid.push_back(static_cast<int>(sequence.query_valid));
      key_valid.push_back(static_cast<int>(sequence.key_valid));
    }
    if (test_.packed) {
      sequences_.cu_query = memory_.add(cu_query);
      sequences_.cu_key = memory_.add(cu_key);
      return;
    }
    sequences_.query_valid = memory_.add(query_valid);
    sequences_.key_valid = memory_.add(key_valid);
    sequences_.query_length = static_cast<int>(all[0].query_length);
    sequences_.key_length = static_cast<int>(all[0].key_length);
  }

  void set_arguments() {
    for (size_t i = 0; i < bound_.int_parameters.size(); ++i) {
      arguments_.integers[i] = std::clamp(bound_.int_parameters[i], -(1 << 30), 1 << 30);
    }
    for (size_t i = 0; i < bound_.arrays.size(); ++i) {
      const bool bytes = lowered_.arrays[i].element == ArraySlot::Element::kUInt8;
      arguments_.arrays[i].data = memory_.add(bound_.arrays[i].data, bound_.array_elements[i] * (bytes ? 1 : 4));
      std::ranges::copy(bound_.arrays[i].strides, arguments_.arrays[i].strides);
    }
  }

  /// The arrays that bound_segments has added.
  void fill_segment_bounds(const cuda::LoadedModule& module) {
    for (size_t i = bound_.arrays.size(); i < lowered_.arrays.size(); i += 2) {
      const std::string& name = lowered_.arrays[i].name;
      const std::string ids = name.substr(0, name.size() - std::string(kSegmentBegin).size());
      const int64_t tokens = test_.geometry.key_tokens;
      SegmentParams params{};
      params.sequences = sequences_;
      params.segments =
          static_cast<const int*>(memory_.add(bound_.segments.at(ids), tokens * static_cast<int64_t>(sizeof(int32_t))));
      params.begin = memory_.make<int>(tokens, 0xcd);
      params.end = memory_.make<int>(tokens, 0xcd);
      params.falls = memory_.make<int>(1, 0);
      params.key_tokens = static_cast<int>(tokens);
      params.batches = batches();
      arguments_.arrays[i] = {params.begin, {1, 0, 0, 0}};
      arguments_.arrays[i + 1] = {params.end, {1, 0, 0, 0}};
      if (tokens == 0) continue;
      launch(module, kCudaSegmentsName, {(tokens + kThreads - 1) / kThreads}, kThreads, 0, params);
      if (fetch(params.falls, 1)[0] != 0) throw std::runtime_error("segment ids fall");
    }
  }

  BlockTable table(size_t slot, const std::vector<bool>& counted) {
    if (test_.raw_tables && bound_.tables.size() == 1) {
      if (const auto raw = raw_table(test_.pattern.mask, test_.bindings, memory_)) return *raw;
    }
    return canonical_table(bound_.tables[slot], counted[slot], memory_);
  }

  void expand_tables(const cuda::LoadedModule& module, const std::vector<bool>& counted) {
    for (size_t slot = 0; slot < bound_.tables.size(); ++slot) {
      const BlockLists& lists = bound_.tables[slot];
      const int64_t key_blocks = (shape().most_keys + lists.size - 1) / lists.size;
      ExpandParams params{};
      params.sequences = sequences_;
      params.table = table(slot, counted);
      params.row_stride = key_blocks;
      params.head_stride = params.row_stride * lists.row_blocks;
      params.batch_stride = params.head_stride * heads();
      params.key_blocks = static_cast<int>(key_blocks);
      params.heads = heads();
      params.counts = memory_.make<unsigned char>(params.batch_stride * batches(), 0xcd);
      if (lists.row_blocks > 0) {
        launch(module, kCudaExpandName, {lists.row_blocks, int64_t{heads()} * batches()}, kThreads,
               expand_shared_bytes(), params);
      }
      arguments_.arrays[lowered_.arrays.size() + slot] = {
          params.counts, {params.batch_stride, params.head_stride, params.row_stride, 1}};
      arguments_.integers[bound_.int_parameters.size() + slot] = params.table.block;
    }
  }

  void build_lists(const cuda::LoadedModule& module, const std::vector<bool>& counted, BuiltRows& built) {
    BuilderShape own = shape();
    own.lists_per_batch = !test_.shares_lists;
    const auto places = static_cast<int>(list_rows(own, test_.plan));
    const int list_heads = test_.shares_lists ? 1 : heads();
    const int64_t rows = int64_t{places} * list_heads;
    built.list_rows_per_head = test_.shares_lists ? 0 : places;
    built.list_rows_per_batch = test_.shares_lists ? 0 : rows_per_batch_;
    const int64_t row_entries = dense_row_entries(shape(), test_.plan);
    ListParams params{};
    params.arguments = arguments_;
    params.sequences = sequences_;
    if (prepared_.table_slots > 0) params.table = table(0, counted);
    params.row_begin = memory_.make<int>(rows, 0xcd);
    params.row_end = memory_.make<int>(rows, 0xcd);
    params.partial_tiles = memory_.make<int>(rows, 0xcd);
    params.entry_capacity = test_.entry_capacity < 0 ? static_cast<int>(rows * row_entries) : test_.entry_capacity;
    params.entries = memory_.make<int>(params.entry_capacity, 0xcd);
    params.entries_per_row = test_.raw_tables ? 0 : static_cast<int>(row_entries);
    params.batches = batches();
    params.rows_per_head = built.list_rows_per_head;
    params.rows_per_batch = built.list_rows_per_batch;
    params.state = state_;
    lists_ = {params.row_begin, params.row_end,           params.partial_tiles,
              params.entries,   built.list_rows_per_head, built.list_rows_per_batch};
    if (rows == 0) return;
    launch(module, kCudaListsName, {places, list_heads}, kThreads, builder_shared_bytes(lowered_, test_.plan), params);
    built.overflow = fetch(state_, 1)[0].overflow != 0;
    const auto begins = fetch(params.row_begin, rows), ends = fetch(params.row_end, rows);
    const auto partial = fetch(params.partial_tiles, rows), entries = fetch(params.entries, params.entry_capacity);
    for (size_t row = 0; row < begins.size(); ++row) {
      built.rows.push_back({begins[row], partial[row], {entries.begin() + begins[row], entries.begin() + ends[row]}});
    }
  }

  void read_rows(const cuda::LoadedModule& module, const OrderParams& params, BuiltRows& built) {
    built.keys = static_cast<int>(shape().most_keys) + test_.plan.tile_k;
    const int64_t pairs = int64_t{places_} * heads() * built.row_queries * built.keys;
    int* counts = memory_.make<int>(pairs, 0);
    launch(module, "read_rows", {places_, heads()}, 32, 0, params, counts, built.keys);
    built.counts = fetch(counts, pairs);
  }

  void build_order(const cuda::LoadedModule& module, BuiltRows& built) {
    built.places = places_;
    built.measured_heads = built.lists && !test_.shares_lists ? heads() : 1;
    const int64_t rows = int64_t{places_} * built.measured_heads;
    OrderParams params{};
    params.arguments = arguments_;
    params.sequences = sequences_;
    params.lists = lists_;
    params.batches = batches();
    params.heads = heads();
    params.heads_per_group = test_.heads_per_group;
    params.rows_per_head = places_;
    params.rows_per_batch = rows_per_batch_;
    params.measured_heads = built.measured_heads;
    params.split_tiles = test_.split_tiles;
    params.split_capacity = test_.split_capacity;
    params.rows = memory_.make<RowMeasure>(rows, 0xcd);
    params.totals =
        memory_.make<RowTotals>(order_totals(places_, heads(), test_.heads_per_group, built.measured_heads), 0);
    const int64_t capacity = order_capacity(places_, heads(), test_.split_capacity);
    params.order = memory_.make<WorkItem>(capacity, 0xcd);
    params.split_rows = memory_.make<SplitRow>(test_.split_capacity / 2, 0xcd);
    params.state = state_;
    if (rows == 0) return;
    if (test_.reads_rows) read_rows(module, params, built);
    launch(module, kCudaMeasureName, {(places_ + 7) / 8, built.measured_heads}, kThreads, 0, params);
    launch(module, kCudaCutName, {(places_ + 255) / 256, built.measured_heads}, kThreads, 0, params);
    launch(module, kCudaOrderName, {(places_ + 7) / 8, built.measured_heads}, kThreads, 0, params);
    const BuildState state = fetch(state_, 1)[0];
    if (state.order_length > capacity) throw std::runtime_error("the order is longer than its capacity");
    built.measures = fetch(params.rows, rows);
    built.order = fetch(params.order, state.order_length);
    built.split_rows = fetch(params.split_rows, state.split_count);
  }

  const BuilderCase& test_;
  LoweredPattern lowered_;
  LoweredPattern prepared_;
  BoundPattern bound_;
  std::string source_;
  Memory memory_;
  SequenceTable sequences_{};
  PatternArguments arguments_{};
  KeyLists lists_{};
  BuildState* state_ = nullptr;
  int places_ = 0;
  int rows_per_batch_ = 0;
};

}  // namespace

BuiltRows build_rows(const BuilderCase& test) { return Builder(test).run(); }

BuilderCase random_builder_case(std::mt19937_64& random, const Mask& mask, bool same_lengths, RandomArrays& owned) {
  BuilderCase test;
  test.pattern.mask = mask;
  if (chance(random, 0.2)) test.pattern.padding = PaddingAdditive{-10000};
  test.shape = {.heads = draw(random, 1, 3), .head_dim = pick<int64_t>(random, {64, 128}), .dtype = DataType::kFloat16};
  test.shape.value_dim = test.shape.head_dim;
  test.geometry = random_geometry(random, 3, 400, same_lengths);
  test.packed = std::ranges::all_of(test.geometry.sequences, [](const Sequence& sequence) {
    return sequence.query_valid == sequence.query_length && sequence.key_valid == sequence.key_length;
  });
  test.plan = default_sm90_plan(test.shape, block_of(mask), pick<int64_t>(random, {256, 8192}));
  test.raw_tables = chance(random, 0.5);
  test.heads_per_group = static_cast<int>(draw(random, 1, 3));
  if (chance(random, 0.7)) {
    test.split_tiles = static_cast<int>(draw(random, 1, 3));
    test.split_capacity = static_cast<int>(draw(random, 0, 40));
  }
  owned = random_arrays(random, test.pattern, test.shape, test.geometry);
  test.bindings = owned.bindings;
  return test;
}

int64_t block_of(const Mask& mask) { return common_block(mask); }

bool wants_lists(const BuilderCase& test) {
  const LoweredPattern lowered = lower_pattern(test.pattern, test.shape);
  return key_source_of(cuda_pattern(lowered, test.plan)) == CudaKeySource::kLists;
}

std::string describe(const BuilderCase& test) {
  std::string lengths;
  for (const Sequence& sequence : test.geometry.sequences) {
    lengths += fmt::format(" {}/{}x{}/{}", sequence.query_valid, sequence.query_length, sequence.key_valid,
                           sequence.key_length);
  }
  return fmt::format("{} {} heads, {}{}, {}, lengths{}, parts of {} tiles, {} slots, groups of {}",
                     print(test.pattern.mask), test.shape.heads, test.packed ? "packed" : "padded",
                     test.raw_tables ? ", raw tables" : "", print(test.plan, test.shape.direction), lengths,
                     test.split_tiles, test.split_capacity, test.heads_per_group);
}

}  // namespace harrier::test
