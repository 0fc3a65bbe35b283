#include "backward_case.h"

#include <algorithm>
#include <deque>
#include <map>

#include "sequence_tensor.h"
#include "source_numbers.h"

namespace harrier::test {
namespace {

// Tokens that no sequence has, before the first and after the last of a packed batch.
constexpr int kTokensBefore = 3;
constexpr int kTokensAfter = 5;

struct Kernels {
  std::string architecture;
  int head_dim, value_dim;  // as the tensors have them
  int padded_head_dim, padded_value_dim;
  int tile_q, tile_k;
  bool deterministic;  // columns add to dQ in their turn
};

Kernels read_kernels(const std::string& source) {
  Kernels kernels;
  kernels.architecture = source.find("Made by Harrier for sm_80") != std::string::npos ? "sm_80" : "sm_90a";
  kernels.head_dim = number(source, R"(head_dim (\d+))");
  kernels.value_dim = number(source, R"(value_dim (\d+))");
  kernels.padded_head_dim = number(source, R"(kHeadDim = (\d+))");
  kernels.padded_value_dim = number(source, R"(kValueDim = (\d+))");
  kernels.tile_q = number(source, R"(kTileQ = (\d+))");
  kernels.tile_k = number(source, R"(kTileK = (\d+))");
  kernels.deterministic = source.find("kDeterministic = true") != std::string::npos;
  return kernels;
}

bool has_entry(const std::string& source, const std::string& entry) {
  return source.find(entry + "(") != std::string::npos;
}

/// The threads that an entry's launch bounds say.
unsigned threads_of(const std::string& source, const std::string& entry) {
  return static_cast<unsigned>(number(source, R"(__launch_bounds__\((\d+)[^)]*\) )" + entry));
}

/// Dynamic shared memory, as the source asserts it or as its entry for that purpose says.
unsigned shared_bytes_of(const std::string& source, const Module& module) {
  if (!has_entry(source, "harrier_shared_bytes")) {
    return static_cast<unsigned>(number(source, R"(>::kBytes == (\d+))"));
  }
  const Buffer<int> bytes(1);
  check(launch(module.kernel("harrier_shared_bytes"), {1}, 1, 0, bytes.data()));
  return static_cast<unsigned>(bytes.download()[0]);
}

/// Where a sequence lies: its batch in the tensors, its first tokens, how many of them are real.
struct Place {
  int batch;
  int first_query, first_key;
  int queries, keys;  // valid
};

/// The statistics of a query, of the pattern in fp64.
struct Row {
  double lse = -INFINITY;
  double delta = 0;
  std::vector<int> seen;
  std::vector<double> probabilities;
  std::vector<double> dots;
};

/// A gradient in fp64, laid out as its tensor is: NaN where no sequence is, exactly zero where nothing was added.
struct Gradient {
  std::vector<double> values;
  std::vector<bool> added;

  explicit Gradient(const Tensor& tensor) : values(tensor.values.size(), NAN), added(tensor.values.size()) {}
  void clear(std::size_t first, std::size_t count) {
    std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(first), count, 0.0);
  }
  void add(std::size_t place, double value) {
    values[place] += value;
    added[place] = true;
  }
};

/// Everything in fp64 that the kernels are compared with, and the statistics that they are handed.
struct Reference {
  const BackwardCase& backward;
  Tensor &query, &key, &value, &d_output;
  Gradient d_query{query}, d_key{key}, d_value{value};

  static std::size_t index(const Tensor& tensor, int batch, int token, int head) {
    return ((static_cast<std::size_t>(batch) * tensor.tokens + token) * tensor.heads + head) * tensor.columns;
  }

  Row row(Pair at, const Place& place) const {
    const ForwardCase& pattern = backward.pattern;
    const int kv_head = at.head / (pattern.heads / pattern.kv_heads);
    Row row;
    std::vector<double> weights;
    double maximum = -INFINITY;
    int pruned = 0;
    for (at.key = 0; at.key < at.sequence.keys; ++at.key) {
      const int count = pattern.count(at);
      if (count == 0) ++pruned;
      if (count == 0 || (at.key >= place.keys && !pattern.padding)) continue;
      double dot = 0;
      for (int i = 0; i < query.columns; ++i) {
        dot += double{query.at(place.batch, place.first_query + at.query, at.head, i)} *
               key.at(place.batch, place.first_key + at.key, kv_head, i);
      }
      const double score = (pattern.score ? pattern.score(at, dot) : dot / std::sqrt(query.columns)) +
                           (at.key < place.keys ? 0.0 : *pattern.padding);
      weights.push_back(score + std::log(count));
      row.seen.push_back(at.key);
      row.dots.push_back(dot);
      maximum = std::max(maximum, weights.back());
    }
    if (row.seen.empty()) return row;
    double sum = pattern.sink ? std::exp(pattern.sink(at.head) - maximum) : 0.0;
    for (const double weight : weights) sum += std::exp(weight - maximum);
    if (pattern.pruned_as_zero) sum += pruned * std::exp(-maximum);
    row.lse = maximum + std::log(sum);
    for (const double weight : weights) row.probabilities.push_back(std::exp(weight - row.lse));
    return row;
  }

  /// Adds what one query contributes to all gradients. Returns its statistics.
  Row add(Pair at, const Place& place) {
    const ForwardCase& pattern = backward.pattern;
    const int kv_head = at.head / (pattern.heads / pattern.kv_heads);
    Row found = row(at, place);
    const std::size_t query_place = index(query, place.batch, place.first_query + at.query, at.head);
    const std::size_t d_output_place = index(d_output, place.batch, place.first_query + at.query, at.head);
    std::vector<double> d_probabilities;
    for (std::size_t i = 0; i < found.seen.size(); ++i) {
      const std::size_t value_place = index(value, place.batch, place.first_key + found.seen[i], kv_head);
      double dot = 0;
      for (int column = 0; column < value.columns; ++column) {
        dot += double{d_output.values[d_output_place + column]} * value.values[value_place + column];
        d_value.add(value_place + column, found.probabilities[i] * d_output.values[d_output_place + column]);
      }
      d_probabilities.push_back(dot);
      found.delta += found.probabilities[i] * dot;
    }
    for (std::size_t i = 0; i < found.seen.size(); ++i) {
      at.key = found.seen[i];
      const double slope = backward.slope ? backward.slope(at, found.dots[i]) : 1.0 / std::sqrt(query.columns);
      const double d_dot = found.probabilities[i] * (d_probabilities[i] - found.delta) * slope;
      const std::size_t key_place = index(key, place.batch, place.first_key + at.key, kv_head);
      for (int column = 0; column < query.columns; ++column) {
        d_query.add(query_place + column, d_dot * key.values[key_place + column]);
        d_key.add(key_place + column, d_dot * query.values[query_place + column]);
      }
    }
    return found;
  }
};

struct Lists {
  std::vector<int> begin, end, partial, entries;
  std::vector<int> turns;  // of entries: how many columns have the query tile before this one
};

/// Lists as QueryLists has them, of every head: tiles that need a mask, then the others.
Lists list_columns(const BackwardCase& backward, const Kernels& kernels, const std::vector<Place>& places,
                   int key_tiles) {
  const ForwardCase& pattern = backward.pattern;
  Lists lists;
  for (std::size_t batch = 0; batch < places.size(); ++batch) {
    for (int column = 0; column < pattern.heads * key_tiles; ++column) {
      const int head = column / key_tiles, key_tile = column % key_tiles;
      std::vector<int> masked, full;
      const bool walked = key_tile * kernels.tile_k < pattern.sequences[batch].keys;
      for (int tile = 0; walked && tile * kernels.tile_q < places[batch].queries; ++tile) {
        const int count = pattern.boxes(static_cast<int>(batch), head, tile, key_tile);
        if (count == 0) continue;
        const bool whole = (key_tile + 1) * kernels.tile_k <= places[batch].keys;
        const int entry = static_cast<int>(static_cast<unsigned>(tile) | static_cast<unsigned>(count - 1) << 24);
        (pattern.evaluated || count > 1 || !whole ? masked : full).push_back(entry);
      }
      for (const auto* entries : {&masked, &full}) {
        for (const int entry : *entries) {
          int turn = 0;
          for (int before = 0; before < key_tile; ++before) {
            turn += pattern.boxes(static_cast<int>(batch), head, entry & kNoBox, before) > 0 ? 1 : 0;
          }
          lists.turns.push_back(turn);
        }
      }
      lists.begin.push_back(static_cast<int>(lists.entries.size()));
      lists.entries.insert(lists.entries.end(), masked.begin(), masked.end());
      lists.entries.insert(lists.entries.end(), full.begin(), full.end());
      lists.end.push_back(static_cast<int>(lists.entries.size()));
      lists.partial.push_back(static_cast<int>(masked.size()));
    }
  }
  lists.entries.push_back(0);
  return lists;
}

double relative_error(const Tensor& found, const Gradient& wanted, int& mismatched) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < found.values.size(); ++i) {
    const double value = wanted.values[i];
    const bool right = std::isnan(value) ? std::isnan(found.values[i])
                                         : std::isfinite(found.values[i]) && (wanted.added[i] || found.values[i] == 0);
    if (!right) ++mismatched;
    if (!right || std::isnan(value)) continue;
    difference += (found.values[i] - value) * (found.values[i] - value);
    norm += value * value;
  }
  return std::sqrt(difference / std::max(norm, 1e-30));
}

/// Any order, or any in which the columns of a head of a sequence rise: `order` has them rising.
void shuffle_order(std::vector<WorkItem>& order, bool rising, std::mt19937& random) {
  std::map<std::pair<int, int>, std::deque<WorkItem>> columns;
  for (const WorkItem& item : order) columns[{item.batch, item.head}].push_back(item);
  std::shuffle(order.begin(), order.end(), random);
  if (!rising) return;
  for (WorkItem& item : order) {
    auto& next = columns[{item.batch, item.head}];
    item = next.front();
    next.pop_front();
  }
}

}  // namespace

GradientComparison run(const BackwardCase& backward) {
  const ForwardCase& pattern = backward.pattern;
  const Kernels kernels = read_kernels(backward.source);
  const Setting capability("HARRIER_EMULATED_CAPABILITY", kernels.architecture == "sm_80" ? "8.0" : "9.0");
  const Context context;
  const Module module(backward.source, kernels.architecture);
  std::mt19937 random(pattern.seed);

  const int sequences = static_cast<int>(pattern.sequences.size());
  std::vector<int> cu_query = {kTokensBefore}, cu_key = {kTokensBefore};
  for (const Sequence& sequence : pattern.sequences) {
    cu_query.push_back(cu_query.back() + sequence.queries);
    cu_key.push_back(cu_key.back() + sequence.keys);
  }
  const int batches = pattern.packed ? 1 : sequences;
  const int query_tokens = pattern.packed ? cu_query.back() + kTokensAfter : pattern.sequences[0].queries;
  const int key_tokens = pattern.packed ? cu_key.back() + kTokensAfter : pattern.sequences[0].keys;
  const auto query_tensor = [&](int columns) {
    return Tensor(batches, query_tokens, pattern.heads, columns, pattern.bfloat16);
  };
  const auto key_tensor = [&](int columns) {
    return Tensor(batches, key_tokens, pattern.kv_heads, columns, pattern.bfloat16);
  };
  Tensor query = query_tensor(kernels.head_dim), d_query = query_tensor(kernels.head_dim);
  Tensor d_output = query_tensor(kernels.value_dim);
  Tensor key = key_tensor(kernels.head_dim), d_key = key_tensor(kernels.head_dim);
  Tensor value = key_tensor(kernels.value_dim), d_value = key_tensor(kernels.value_dim);

  std::vector<Place> places;
  int query_tiles = 0, key_tiles = 0;
  for (int i = 0; i < sequences; ++i) {
    const Sequence& sequence = pattern.sequences[i];
    const Place place = {pattern.packed ? 0 : i, pattern.packed ? cu_query[i] : 0, pattern.packed ? cu_key[i] : 0,
                         pattern.valid.empty() ? sequence.queries : pattern.valid[i],
                         pattern.valid.empty() ? sequence.keys : pattern.valid[i]};
    places.push_back(place);
    query_tiles = std::max(query_tiles, (sequence.queries + kernels.tile_q - 1) / kernels.tile_q);
    key_tiles = std::max(key_tiles, (sequence.keys + kernels.tile_k - 1) / kernels.tile_k);
    // What sees nothing and is not seen stays NaN.
    if (sequence.keys > 0) {
      query.fill(random, place.batch, place.first_query, place.queries);
      d_output.fill(random, place.batch, place.first_query, place.queries);
    }
    if (sequence.queries > 0) {
      const int written = pattern.padding ? sequence.keys : place.keys;
      key.fill(random, place.batch, place.first_key, written);
      value.fill(random, place.batch, place.first_key, written);
    }
  }
  for (Tensor* tensor : {&query, &key, &value, &d_output, &d_query, &d_key, &d_value}) tensor->upload();

  BackwardParams params{};
  params.rows_per_batch = pattern.packed ? kPackedRows : query_tiles;
  params.tile_places = pattern.packed ? cu_query.back() / kernels.tile_q + sequences : query_tiles * sequences;
  const auto first_place = [&](int sequence) {
    return first_row(params.rows_per_batch, sequence, cu_query[static_cast<std::size_t>(sequence)], kernels.tile_q);
  };

  Reference wanted{backward, query, key, value, d_output};
  const std::size_t statistics = static_cast<std::size_t>(pattern.heads) * params.tile_places * kernels.tile_q;
  std::vector<float> log2_lse(statistics, INFINITY), delta(statistics, 0.0f);
  for (int i = 0; i < sequences; ++i) {
    const Sequence& sequence = pattern.sequences[i];
    const auto clear = [&](Gradient& gradient, const Tensor& tensor, int first, int count) {
      gradient.clear(Reference::index(tensor, places[i].batch, first, 0),
                     static_cast<std::size_t>(count) * tensor.heads * tensor.columns);
    };
    clear(wanted.d_query, query, places[i].first_query, sequence.queries);
    clear(wanted.d_key, key, places[i].first_key, sequence.keys);
    clear(wanted.d_value, value, places[i].first_key, sequence.keys);
    for (int head = 0; head < pattern.heads; ++head) {
      for (int q = 0; q < places[i].queries; ++q) {
        const Row row = wanted.add({i, head, q, 0, sequence}, places[i]);
        if (row.seen.empty()) continue;
        const std::size_t place =
            (static_cast<std::size_t>(head) * params.tile_places + first_place(i)) * kernels.tile_q + q;
        log2_lse[place] = static_cast<float>(row.lse) * kLog2OfE;
        delta[place] = static_cast<float>(row.delta);
      }
    }
  }

  if (kernels.architecture == "sm_90a") {
    params.query = query.map(batches, kernels.tile_q, kernels.padded_head_dim);
    params.d_output = d_output.map(batches, kernels.tile_q, kernels.padded_value_dim);
    params.key = key.map(batches, kernels.tile_k, kernels.padded_head_dim);
    params.value = value.map(batches, kernels.tile_k, kernels.padded_value_dim);
  }
  params.query_rows = query.rows();
  params.key_rows = key.rows();
  params.value_rows = value.rows();
  params.d_output_rows = d_output.rows();
  params.d_query_rows = d_query.rows();
  params.d_key_rows = d_key.rows();
  params.d_value_rows = d_value.rows();
  std::copy(pattern.integers.begin(), pattern.integers.end(), params.arguments.integers);
  std::copy(pattern.floats.begin(), pattern.floats.end(), params.arguments.floats);
  std::vector<std::unique_ptr<Buffer<float>>> float_arrays;
  for (const auto& array : pattern.float_arrays) {
    float_arrays.push_back(std::make_unique<Buffer<float>>(array));
    params.arguments.arrays[float_arrays.size() - 1] = {float_arrays.back()->data(), {1, 0, 0, 0}};
  }
  const Buffer<int> device_cu_query(cu_query), device_cu_key(cu_key);
  const Buffer<int> valid(pattern.valid.empty() ? std::vector<int>(1) : pattern.valid);
  if (pattern.packed) {
    params.sequences.cu_query = device_cu_query.data();
    params.sequences.cu_key = device_cu_key.data();
  }
  if (!pattern.valid.empty()) params.sequences.query_valid = params.sequences.key_valid = valid.data();
  params.sequences.query_length = pattern.sequences[0].queries;
  params.sequences.key_length = pattern.sequences[0].keys;

  Lists lists;
  if (pattern.boxes) lists = list_columns(backward, kernels, places, key_tiles);
  const auto or_one = [](const std::vector<int>& values) { return values.empty() ? std::vector<int>(1) : values; };
  const Buffer<int> column_begin(or_one(lists.begin)), column_end(or_one(lists.end)), partial(or_one(lists.partial)),
      entries(or_one(lists.entries));
  params.query_lists = {column_begin.data(), column_end.data(), partial.data(),
                        entries.data(),      key_tiles,         key_tiles * pattern.heads};
  // Lists of packed sequences are numbered as those of padded ones here, by their longest.
  if (pattern.boxes && pattern.packed) {
    params.query_lists.columns_per_batch = key_tiles * pattern.heads;
  }

  std::vector<WorkItem> order;
  std::vector<SplitRow> splits;
  int slots = 0;
  const int heads_per_kv_head = pattern.heads / pattern.kv_heads;
  for (int batch = 0; batch < sequences; ++batch) {
    for (int tile = 0; tile * kernels.tile_k < pattern.sequences[batch].keys; ++tile) {
      for (int head = 0; head < pattern.kv_heads; ++head) {
        const int tiles =
            heads_per_kv_head * ((pattern.sequences[batch].queries + kernels.tile_q - 1) / kernels.tile_q);
        if (pattern.split_tiles == 0 || tiles <= pattern.split_tiles) {
          order.push_back({tile, head, batch, 0, kAll, -1});
          continue;
        }
        const int parts = (tiles + pattern.split_tiles - 1) / pattern.split_tiles;
        splits.push_back({tile, head, batch, slots, parts});
        for (int part = 0; part < parts; ++part) {
          const int end = part + 1 == parts ? kAll : (part + 1) * pattern.split_tiles;
          order.push_back({tile, head, batch, part * pattern.split_tiles, end, slots++});
        }
      }
    }
  }
  shuffle_order(order, kernels.deterministic, random);
  const Buffer<WorkItem> items(order);
  const Buffer<int> item_count(std::vector<int>{static_cast<int>(order.size())}), counter(std::vector<int>{0, 0});
  params.columns = {items.data(), item_count.data(), counter.data()};
  params.heads = pattern.heads;
  params.heads_per_kv_head = heads_per_kv_head;
  params.batches = sequences;
  const Buffer<float> device_lse(log2_lse), device_delta(delta);
  params.log2_lse = device_lse.data();
  params.delta = device_delta.data();
  const Buffer<float> sums(std::vector<float>(statistics * kernels.padded_head_dim, 0.0f));
  params.d_query_sums = sums.data();
  constexpr int kMostSharers = 2;
  const Buffer<uint32> turns(
      std::vector<uint32>(static_cast<std::size_t>(pattern.heads) * params.tile_places * kMostSharers));
  const Buffer<int> entry_turns(or_one(lists.turns));
  params.turns = turns.data();
  params.entry_turns = entry_turns.data();
  const int part_columns = kernels.padded_head_dim + kernels.padded_value_dim;
  const Buffer<float> parts(static_cast<std::size_t>(std::max(slots, 1)) * kernels.tile_k * part_columns);
  params.column_parts = parts.data();
  params.slope = static_cast<float>(pattern.folded ? 1.0 / std::sqrt(kernels.head_dim) : 1.0);
  params.score_scale = params.slope * kLog2OfE;
  params.padding_score = static_cast<float>(pattern.padding.value_or(0.0)) * kLog2OfE;

  const unsigned ctas = std::min<unsigned>(4, static_cast<unsigned>(order.size()));
  check(launch(module.kernel("harrier_backward_columns"), {ctas},
               threads_of(backward.source, "harrier_backward_columns"), shared_bytes_of(backward.source, module),
               params));
  EXPECT_EQ(counter.download(), (std::vector<int>{0, 0}));
  if (has_entry(backward.source, "harrier_backward_queries")) {
    const Shape3 grid{static_cast<unsigned>(params.tile_places), static_cast<unsigned>(pattern.heads),
                      static_cast<unsigned>(kernels.tile_q) / 64};
    check(launch(module.kernel("harrier_backward_queries"), grid, 128, 0, params));
  }

  for (Tensor* tensor : {&d_query, &d_key, &d_value}) tensor->download();
  const auto found_parts = parts.download();
  for (const SplitRow& split : splits) {
    const Place& place = places[static_cast<std::size_t>(split.batch)];
    for (int k = 0; k < kernels.tile_k; ++k) {
      const int token = split.tile * kernels.tile_k + k;
      if (token >= pattern.sequences[static_cast<std::size_t>(split.batch)].keys) break;
      for (int column = 0; column < part_columns; ++column) {
        const bool is_key = column < kernels.padded_head_dim;
        Tensor& tensor = is_key ? d_key : d_value;
        const int own = is_key ? column : column - kernels.padded_head_dim;
        float sum = 0;
        for (int part = 0; part < split.slots; ++part) {
          sum += found_parts[(static_cast<std::size_t>(split.first_slot + part) * kernels.tile_k + k) * part_columns +
                             column];
        }
        if (own < tensor.columns) {
          tensor.at(place.batch, place.first_key + token, split.head, own) = sum * (is_key ? params.slope : 1.0f);
        }
      }
    }
  }
  GradientComparison comparison{0, 0, 0, 0, sums.download()};
  comparison.d_query_error = relative_error(d_query, wanted.d_query, comparison.mismatched);
  comparison.d_key_error = relative_error(d_key, wanted.d_key, comparison.mismatched);
  comparison.d_value_error = relative_error(d_value, wanted.d_value, comparison.mismatched);
  return comparison;
}

void expect_right(const BackwardCase& backward) {
  const GradientComparison found = run(backward);
  const double limit = backward.pattern.bfloat16 ? 8e-3 : 1e-3;
  EXPECT_LT(found.d_query_error, limit);
  EXPECT_LT(found.d_key_error, limit);
  EXPECT_LT(found.d_value_error, limit);
  EXPECT_EQ(found.mismatched, 0);
}

}  // namespace harrier::test
