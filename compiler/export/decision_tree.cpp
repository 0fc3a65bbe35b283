#include "compiler/export/decision_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "ir/error.h"

namespace harrier {
namespace {

std::array<int64_t, 3> places_of(const LengthBucket& bucket) {
  return {bucket.query_length, bucket.key_length, bucket.batch_heads};
}

struct Labelled {
  std::array<int64_t, 3> places;
  size_t kernel;
};

struct Split {
  int dimension;
  int64_t limit;
  double impurity;
};

/// Above `low`, at most `high`: about where their ratio is halved.
int64_t limit_between(int64_t low, int64_t high) {
  const double mean = std::sqrt(static_cast<double>(low) * static_cast<double>(high));
  return std::clamp(static_cast<int64_t>(std::ceil(mean)), low + 1, high);
}

/// Gini impurity times the number of points: 0 where all have one kernel.
double impurity_of(const std::map<size_t, int64_t>& counts) {
  double all = 0;
  double squares = 0;
  for (const auto& [kernel, count] : counts) {
    all += static_cast<double>(count);
    squares += static_cast<double>(count * count);
  }
  return all == 0 ? 0 : all - squares / all;
}

std::optional<Split> best_split(const std::vector<Labelled>& points) {
  std::optional<Split> best;
  for (int dimension = 0; dimension < 3; ++dimension) {
    const auto d = static_cast<size_t>(dimension);
    std::set<int64_t> values;
    for (const Labelled& point : points) values.insert(point.places[d]);
    for (auto low = values.begin(); low != values.end() && std::next(low) != values.end(); ++low) {
      const int64_t limit = limit_between(*low, *std::next(low));
      std::map<size_t, int64_t> below;
      std::map<size_t, int64_t> above;
      for (const Labelled& point : points) ++(point.places[d] < limit ? below : above)[point.kernel];
      const double impurity = impurity_of(below) + impurity_of(above);
      if (!best || impurity < best->impurity) best = Split{dimension, limit, impurity};
    }
  }
  return best;
}

void grow(std::vector<LengthTreeNode>& tree, int node, const std::vector<Labelled>& points) {
  const auto is_first = [&](const Labelled& point) { return point.kernel == points.front().kernel; };
  if (std::ranges::all_of(points, is_first)) {
    tree[static_cast<size_t>(node)].below = static_cast<int>(points.front().kernel);
    return;
  }
  const std::optional<Split> split = best_split(points);
  if (!split) {
    const auto& places = points.front().places;
    throw InvalidInput(fmt::format("the bucket of {} queries, {} keys and {} heads is there twice: merge its times",
                                   places[0], places[1], places[2]));
  }
  std::vector<Labelled> below;
  std::vector<Labelled> above;
  for (const Labelled& point : points) {
    (point.places[static_cast<size_t>(split->dimension)] < split->limit ? below : above).push_back(point);
  }
  const int first = static_cast<int>(tree.size());
  tree.resize(tree.size() + 2);
  tree[static_cast<size_t>(node)] = {
      .dimension = split->dimension, .limit = split->limit, .below = first, .above = first + 1};
  grow(tree, first, below);
  grow(tree, first + 1, above);
}

}  // namespace

std::vector<LengthTreeNode> length_tree(const std::vector<LengthBucket>& buckets, const std::vector<size_t>& kernels) {
  HARRIER_CHECK(buckets.size() == kernels.size(), "every bucket must have a kernel");
  std::vector<LengthTreeNode> tree(1);
  std::vector<Labelled> points;
  for (size_t i = 0; i < buckets.size(); ++i) points.push_back({places_of(buckets[i]), kernels[i]});
  if (!points.empty()) grow(tree, 0, points);
  return tree;
}

size_t kernel_for(const std::vector<LengthTreeNode>& tree, const LengthBucket& lengths) {
  const std::array<int64_t, 3> places = places_of(lengths);
  size_t node = 0;
  while (tree[node].dimension >= 0) {
    const LengthTreeNode& at = tree[node];
    node = static_cast<size_t>(places[static_cast<size_t>(at.dimension)] < at.limit ? at.below : at.above);
  }
  return static_cast<size_t>(tree[node].below);
}

}  // namespace harrier
