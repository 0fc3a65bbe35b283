#include "forward_case.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <random>
#include <sstream>

#include "sequence_tensor.h"
#include "source_numbers.h"

namespace harrier::test {
namespace {

struct Stub {
  std::string text;
  std::string architecture;
  int head_dim, value_dim;  // as the tensors have them
  int tile_q, tile_k, box_rows;
  int padded_head_dim, padded_value_dim;
  unsigned threads, shared_bytes;
};

Stub read_stub(const std::string& name) {
  std::ifstream file(HARRIER_TEST_DATA "/cuda/" + name + ".cu");
  std::ostringstream text;
  text << file.rdbuf();
  Stub stub;
  stub.text = text.str();
  stub.architecture = stub.text.find("Made by Harrier for sm_80") != std::string::npos ? "sm_80" : "sm_90a";
  stub.head_dim = number(stub.text, R"(head_dim (\d+))");
  stub.value_dim = number(stub.text, R"(value_dim (\d+))");
  stub.padded_head_dim = number(stub.text, R"(kHeadDim = (\d+))");
  stub.padded_value_dim = number(stub.text, R"(kValueDim = (\d+))");
  stub.tile_q = number(stub.text, R"(kTileQ = (\d+))");
  stub.tile_k = number(stub.text, R"(kTileK = (\d+))");
  stub.box_rows = number(stub.text, R"(kBoxRows = (\d+))");
  stub.shared_bytes = static_cast<unsigned>(number(stub.text, R"(>::kBytes == (\d+))"));
  stub.threads = static_cast<unsigned>(number(stub.text, R"(__launch_bounds__\((\d+))"));
  return stub;
}

/// The entry that joins parts, as the builder's program has it.
constexpr char kCombine[] = R"(
#include "codegen/cuda/kernels/combine.cuh"
extern "C" __global__ void __launch_bounds__(32 * harrier::kCombineWarps) harrier_combine(
    const __grid_constant__ harrier::ForwardParams params, const harrier::SplitRow* split_rows, const int* split_count) {
  harrier::combine<harrier::Config, harrier::Mask, harrier::Sink>(params, split_rows, split_count);
}
)";

struct Lists {
  std::vector<int> begin, end, partial, entries;
  int rows_per_head = 0, rows_per_batch = 0;
};

/// Lists as README of codegen/cuda wants them: holes, boxes that need a mask, the others.
Lists build_lists(const ForwardCase& forward, const Stub& stub, int query_tiles) {
  Lists lists;
  lists.rows_per_head = query_tiles;
  lists.rows_per_batch = query_tiles * forward.heads;
  const int boxes_a_tile = stub.tile_k / stub.box_rows;
  for (std::size_t batch = 0; batch < forward.sequences.size(); ++batch) {
    const int valid = forward.valid.empty() ? forward.sequences[batch].keys : forward.valid[batch];
    const int keys = forward.padding || (forward.pruned_as_zero && valid > 0) ? forward.sequences[batch].keys : valid;
    for (int row = 0; row < forward.heads * query_tiles; ++row) {
      std::vector<int> masked, full;
      for (int box = 0; box * stub.box_rows < keys; ++box) {
        const int count = forward.boxes(static_cast<int>(batch), row / query_tiles, row % query_tiles, box);
        if (count == 0) continue;
        const bool whole = (box + 1) * stub.box_rows <= valid;
        const int entry = static_cast<int>(static_cast<unsigned>(box) | static_cast<unsigned>(count - 1) << 24);
        (forward.evaluated || count > 1 || !whole ? masked : full).push_back(entry);
      }
      const int holes = -static_cast<int>(masked.size() + full.size()) & (boxes_a_tile - 1);
      lists.begin.push_back(static_cast<int>(lists.entries.size()));
      lists.entries.insert(lists.entries.end(), holes, kNoBox);
      lists.entries.insert(lists.entries.end(), masked.begin(), masked.end());
      lists.entries.insert(lists.entries.end(), full.begin(), full.end());
      lists.end.push_back(static_cast<int>(lists.entries.size()));
      lists.partial.push_back((holes + static_cast<int>(masked.size()) + boxes_a_tile - 1) / boxes_a_tile);
    }
  }
  lists.entries.push_back(kNoBox);
  return lists;
}

/// O and LSE of one query in fp64.
struct Reference {
  std::vector<double> output;
  double lse;
};

Reference reference(const ForwardCase& forward, Pair at, Tensor& query, Tensor& key, Tensor& value, int batch,
                    int query_token, int key_token, int keys) {
  const int kv_head = at.head / (forward.heads / forward.kv_heads);
  std::vector<double> weights;
  std::vector<int> seen;
  double maximum = -INFINITY;
  int pruned = 0;
  for (at.key = 0; at.key < at.sequence.keys; ++at.key) {
    const int count = forward.count(at);
    if (count == 0) ++pruned;
    if (count == 0 || (at.key >= keys && !forward.padding)) continue;
    double dot = 0;
    for (int i = 0; i < query.columns; ++i) {
      dot +=
          double{query.at(batch, query_token + at.query, at.head, i)} * key.at(batch, key_token + at.key, kv_head, i);
    }
    const double score = (forward.score ? forward.score(at, dot) : dot / std::sqrt(query.columns)) +
                         (at.key < keys ? 0.0 : *forward.padding);
    weights.push_back(score + std::log(count));
    seen.push_back(at.key);
    maximum = std::max(maximum, weights.back());
  }
  Reference result{std::vector<double>(value.columns, 0.0), -INFINITY};
  if (seen.empty()) return result;
  double sum = forward.sink ? std::exp(forward.sink(at.head) - maximum) : 0.0;
  for (const double weight : weights) sum += std::exp(weight - maximum);
  if (forward.pruned_as_zero) sum += pruned * std::exp(-maximum);
  result.lse = maximum + std::log(sum);
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const double probability = std::exp(weights[i] - result.lse);
    for (int column = 0; column < value.columns; ++column) {
      result.output[column] += probability * value.at(batch, key_token + seen[i], kv_head, column);
    }
  }
  return result;
}

}  // namespace

Comparison run(const ForwardCase& forward) {
  const Stub stub = read_stub(forward.stub);
  const Setting capability("HARRIER_EMULATED_CAPABILITY", stub.architecture == "sm_80" ? "8.0" : "9.0");
  const Context context;
  const Module module(stub.text + kCombine, stub.architecture);
  std::mt19937 random(forward.seed);

  const int sequences = static_cast<int>(forward.sequences.size());
  std::vector<int> cu_query = {0}, cu_key = {0};
  for (const Sequence& sequence : forward.sequences) {
    cu_query.push_back(cu_query.back() + sequence.queries);
    cu_key.push_back(cu_key.back() + sequence.keys);
  }
  const int batches = forward.packed ? 1 : sequences;
  const int query_tokens = forward.packed ? cu_query.back() : forward.sequences[0].queries;
  const int key_tokens = forward.packed ? cu_key.back() : forward.sequences[0].keys;
  Tensor query(batches, query_tokens, forward.heads, stub.head_dim, forward.bfloat16);
  Tensor key(batches, key_tokens, forward.kv_heads, stub.head_dim, forward.bfloat16);
  Tensor value(batches, key_tokens, forward.kv_heads, stub.value_dim, forward.bfloat16);
  Tensor output(batches, query_tokens, forward.heads, stub.value_dim, forward.bfloat16);
  for (int i = 0; i < sequences; ++i) {
    const int batch = forward.packed ? 0 : i;
    const int first_query = forward.packed ? cu_query[i] : 0, first_key = forward.packed ? cu_key[i] : 0;
    const int queries = forward.valid.empty() ? forward.sequences[i].queries : forward.valid[i];
    const int keys = forward.valid.empty() ? forward.sequences[i].keys : forward.valid[i];
    query.fill(random, batch, first_query, queries);
    const int written = forward.padding ? forward.sequences[i].keys : keys;
    key.fill(random, batch, first_key, written);
    value.fill(random, batch, first_key, written);
  }
  for (Tensor* tensor : {&query, &key, &value, &output}) tensor->upload();

  int query_tiles = 0;
  for (const Sequence& sequence : forward.sequences) {
    query_tiles = std::max(query_tiles, (sequence.queries + stub.tile_q - 1) / stub.tile_q);
  }
  ForwardParams params{};
  if (stub.architecture == "sm_90a") {
    params.query = query.map(batches, stub.tile_q, stub.padded_head_dim);
    params.key = key.map(batches, stub.box_rows, stub.padded_head_dim);
    params.value = value.map(batches, stub.box_rows, stub.padded_value_dim);
    params.output = output.map(batches, 64, stub.padded_value_dim);
  }
  params.query_rows = query.rows();
  params.key_rows = key.rows();
  params.value_rows = value.rows();
  params.output_rows = output.rows();
  std::copy(forward.integers.begin(), forward.integers.end(), params.arguments.integers);
  std::copy(forward.floats.begin(), forward.floats.end(), params.arguments.floats);
  int slot = 0;
  std::vector<std::unique_ptr<Buffer<int>>> int_arrays;
  std::vector<std::unique_ptr<Buffer<float>>> float_arrays;
  if (!forward.int_array.empty()) {
    int_arrays.push_back(std::make_unique<Buffer<int>>(forward.int_array));
    params.arguments.arrays[slot++] = {int_arrays.back()->data(), {1, 0, 0, 0}};
  }
  for (const auto& array : forward.float_arrays) {
    float_arrays.push_back(std::make_unique<Buffer<float>>(array));
    params.arguments.arrays[slot++] = {float_arrays.back()->data(), {1, 0, 0, 0}};
  }
  const Buffer<int> device_cu_query(cu_query), device_cu_key(cu_key);
  const Buffer<int> valid(forward.valid.empty() ? std::vector<int>(1) : forward.valid);
  if (forward.packed) {
    params.sequences.cu_query = device_cu_query.data();
    params.sequences.cu_key = device_cu_key.data();
  }
  if (!forward.valid.empty()) params.sequences.query_valid = params.sequences.key_valid = valid.data();
  params.sequences.query_length = forward.sequences[0].queries;
  params.sequences.key_length = forward.sequences[0].keys;

  Lists lists;
  if (forward.boxes) lists = build_lists(forward, stub, query_tiles);
  const auto or_one = [](const std::vector<int>& values) { return values.empty() ? std::vector<int>(1) : values; };
  const Buffer<int> row_begin(or_one(lists.begin)), row_end(or_one(lists.end)), partial(or_one(lists.partial)),
      entries(or_one(lists.entries));
  if (forward.boxes) {
    params.lists = {row_begin.data(), row_end.data(),      partial.data(),
                    entries.data(),   lists.rows_per_head, lists.rows_per_batch};
  }

  // Padded sequences are taken by the formula, packed ones in an order that is as good as any.
  std::vector<WorkItem> order;
  std::vector<SplitRow> splits;
  int slots = 0;
  for (int batch = 0; batch < sequences; ++batch) {
    for (int tile = 0; tile * stub.tile_q < forward.sequences[batch].queries; ++tile) {
      for (int head = 0; head < forward.heads; ++head) {
        const int key_tiles = (forward.sequences[batch].keys + stub.tile_k - 1) / stub.tile_k;
        if (forward.split_tiles == 0 || key_tiles <= forward.split_tiles) {
          order.push_back({tile, head, batch, 0, kAll, -1});
          continue;
        }
        const int parts = (key_tiles + forward.split_tiles - 1) / forward.split_tiles;
        splits.push_back({tile, head, batch, slots, parts});
        for (int part = 0; part < parts; ++part) {
          const int end = part + 1 == parts ? kAll : (part + 1) * forward.split_tiles;
          order.push_back({tile, head, batch, part * forward.split_tiles, end, slots++});
        }
      }
    }
  }
  std::shuffle(order.begin(), order.end(), random);
  const Buffer<WorkItem> device_order(order);
  const Buffer<int> order_length(std::vector<int>{static_cast<int>(order.size())});
  const Buffer<int> counter(std::vector<int>{0, 0});
  Buffer<float> lse(static_cast<std::size_t>(batches) * forward.heads * query_tokens);
  const Buffer<float> split_output(static_cast<std::size_t>(std::max(slots, 1)) * stub.tile_q * stub.padded_value_dim);
  const Buffer<float> split_lse(static_cast<std::size_t>(std::max(slots, 1)) * stub.tile_q);
  const Buffer<int> split_shown(static_cast<std::size_t>(std::max(slots, 1)) * stub.tile_q);
  if (forward.packed || slots > 0) {
    params.order = device_order.data();
    params.order_length = order_length.data();
  }
  params.work_count = query_tiles * forward.heads * sequences;
  params.heads = forward.heads;
  params.heads_per_kv_head = forward.heads / forward.kv_heads;
  params.heads_per_group = 2;
  params.query_tiles = query_tiles;
  params.last_rows_first = 1;
  params.counter = counter.data();
  params.lse = lse.data();
  params.lse_batch_stride = int64{forward.heads} * query_tokens;
  params.lse_head_stride = query_tokens;
  params.lse_token_stride = 1;
  params.split_output = split_output.data();
  params.split_lse = split_lse.data();
  if (forward.pruned_as_zero) params.split_shown = split_shown.data();
  params.padding_score = static_cast<float>(forward.padding.value_or(0.0)) * kLog2OfE;
  params.score_scale = static_cast<float>(forward.folded ? 1.0 / std::sqrt(stub.head_dim) : 1.0) * kLog2OfE;

  const unsigned ctas = std::min<unsigned>(4, static_cast<unsigned>(order.size()));
  check(launch(module.kernel("harrier_forward"), {ctas}, stub.threads, stub.shared_bytes, params));
  if (!splits.empty()) {
    const Buffer<SplitRow> rows(splits);
    const Buffer<int> split_count(std::vector<int>{static_cast<int>(splits.size())});
    const Shape3 grid{static_cast<unsigned>(splits.size()) + 3, static_cast<unsigned>(stub.tile_q) / 8};
    check(launch(module.kernel("harrier_combine"), grid, 256, 0, params, rows.data(), split_count.data()));
  }
  EXPECT_EQ(counter.download(), (std::vector<int>{0, 0}));

  output.download();
  const auto found_lse = lse.download();
  double difference = 0, norm = 0;
  Comparison comparison{0, 0, 0};
  for (int i = 0; i < sequences; ++i) {
    const int batch = forward.packed ? 0 : i;
    const int first_query = forward.packed ? cu_query[i] : 0, first_key = forward.packed ? cu_key[i] : 0;
    const int queries = forward.valid.empty() ? forward.sequences[i].queries : forward.valid[i];
    const int keys = forward.valid.empty() ? forward.sequences[i].keys : forward.valid[i];
    for (int head = 0; head < forward.heads; ++head) {
      for (int q = 0; q < forward.sequences[i].queries; ++q) {
        const Reference wanted = q < queries ? reference(forward, {i, head, q, 0, forward.sequences[i]}, query, key,
                                                         value, batch, first_query, first_key, keys)
                                             : Reference{std::vector<double>(stub.value_dim, 0.0), -INFINITY};
        const double found =
            found_lse[(static_cast<std::size_t>(batch) * forward.heads + head) * query_tokens + first_query + q];
        if (std::isinf(wanted.lse) || !std::isfinite(found)) {
          comparison.mismatched += found == wanted.lse ? 0 : 1;
        } else {
          comparison.lse_error = std::max(comparison.lse_error, std::abs(found - wanted.lse));
        }
        for (int column = 0; column < stub.value_dim; ++column) {
          const double got = output.at(batch, first_query + q, head, column);
          if (!std::isfinite(got)) {
            ++comparison.mismatched;
            continue;
          }
          difference += (got - wanted.output[column]) * (got - wanted.output[column]);
          norm += wanted.output[column] * wanted.output[column];
        }
      }
    }
  }
  comparison.output_error = std::sqrt(difference / std::max(norm, 1e-30));
  return comparison;
}

void expect_right(const ForwardCase& forward) {
  const Comparison found = run(forward);
  EXPECT_LT(found.output_error, forward.bfloat16 ? 6e-3 : 1e-3) << forward.stub;
  EXPECT_LT(found.lse_error, 2e-3) << forward.stub;
  EXPECT_EQ(found.mismatched, 0) << forward.stub;
}

}  // namespace harrier::test
