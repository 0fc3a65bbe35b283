#include "compiler/cuda/runners/local_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>

#include "compiler/bind.h"
#include "compiler/cuda/choose_cuda_plan.h"
#include "compiler/cuda/cuda_code.h"
#include "compiler/cuda/sampled_reference.h"
#include "compiler/cuda/tune_bench.h"
#include "compiler/passes/lower_pattern.h"
#include "compiler/passes/simplify.h"
#include "ir/error.h"

namespace harrier {
namespace {

/// Two right outputs in 16 bits are apart by what rounding makes of other orders of summing.
constexpr double kMostError = 0.02;
constexpr size_t kReferenceTokens = 4;
constexpr int64_t kMostReferenceNumbers = int64_t{1} << 26;  // of K and V that are brought to the host

class LocalRunner {
 public:
  LocalRunner(const Workload& workload, const std::vector<LengthDraw>& draws, const Gpu& gpu,
              const LocalRunnerOptions& options)
      : workload_(workload),
        draws_(draws),
        gpu_(gpu),
        options_(options),
        default_{.plan = default_plan_of(workload, target())},
        bench_(gpu, workload.shape, draws, options.seed, forward_kernel()) {}

  autotune::CompileVerdict compile(const autotune::Choice& choice, const std::stop_token& stop) {
    return verdict_of(compiled(choice, stop).binary(), choice.plan == default_.plan);
  }

  CheckedCandidate check(const autotune::Choice& choice) {
    take_expected();
    if (choice == default_) return check_default();
    for (size_t draw = 0; draw < draws_.size(); ++draw) {
      const std::vector<SampledRows> sampled = bench_.sample(launch_of(choice, draw), draw);
      for (size_t i = 0; i < sampled.size(); ++i) {
        const double error = relative_error(sampled[i].values, expected_[draw][i].values);
        if (error <= kMostError) continue;
        return {.verdict = {.status = autotune::RunStatus::kWrong,
                            .us = 0,
                            .reason = fmt::format("its {} is {:.2g} from the default's, at most {} is rounding",
                                                  sampled[i].tensor, error, kMostError)}};
      }
    }
    return {};
  }

  autotune::RunVerdict measure(const autotune::Choice& choice, size_t draw) {
    const CudaLaunch& launch = launch_of(choice, draw);
    if (!options_.timed_us) return {.status = autotune::RunStatus::kGood, .us = bench_.time_us(launch), .reason = {}};
    bench_.run(launch);
    return {.status = autotune::RunStatus::kGood, .us = options_.timed_us(choice, draw), .reason = {}};
  }

  void release(const autotune::Choice& choice) {
    const std::string text = to_text(choice);
    std::erase_if(launches_, [&](const auto& entry) { return entry.first.first == text; });
  }

 private:
  CudaTarget target() const {
    CudaTarget target = target_of(gpu_);
    if (!options_.compile.architecture.empty()) target.architecture = options_.compile.architecture;
    return target;
  }

  bool is_backward() const { return workload_.shape.direction == Direction::kBackward; }

  /// What backward launches read the results of.
  std::optional<CudaKernel> forward_kernel() const {
    if (!is_backward()) return std::nullopt;
    Workload forward = workload_;
    forward.shape.direction = Direction::kForward;
    CudaCompileOptions compile = options_.compile;
    compile.plan.reset();
    return compile_cuda(forward, gpu_, compile);
  }

  CudaKernel compiled(const autotune::Choice& choice, const std::stop_token& stop) {
    CudaCompileOptions compile = options_.compile;
    compile.stop = stop;
    compile.use_tunings = false;
    // The default is compiled as it always is, with a roomier plan where the pattern needs one.
    compile.plan = choice.plan == default_.plan ? std::nullopt : std::optional(choice.plan);
    CudaKernel kernel = compile_cuda(workload_, gpu_, compile);
    const std::lock_guard lock(mutex_);
    kernels_.insert_or_assign(autotune::to_text(choice.plan), kernel);
    return kernel;
  }

  CudaKernel kernel_of(const autotune::Choice& choice) {
    {
      const std::lock_guard lock(mutex_);
      const auto found = kernels_.find(autotune::to_text(choice.plan));
      if (found != kernels_.end()) return found->second;
    }
    return compiled(choice, {});
  }

  const CudaLaunch& launch_of(const autotune::Choice& choice, size_t draw) {
    const auto place = std::pair(autotune::to_text(choice), draw);
    const auto found = launches_.find(place);
    if (found != launches_.end()) return found->second;
    return launches_.emplace(place, bench_.prepare(kernel_of(choice), choice.schedule, draw)).first->second;
  }

  /// What the default computes, which every other candidate is compared with.
  void take_expected() {
    for (size_t draw = expected_.size(); draw < draws_.size(); ++draw) {
      expected_.push_back(bench_.sample(launch_of(default_, draw), draw));
    }
  }

  /// The default's results beside double precision, of some tokens of the first sequence that is not too long.
  CheckedCandidate check_default() {
    if (!has_sampled_reference(workload_.pattern)) return {};
    const auto& sequences = draws_.front().geometry.sequences;
    const auto found = std::ranges::find_if(sequences, [&](const Sequence& sequence) {
      return sequence.query_length > 0 && numbers_of(sequence) <= kMostReferenceNumbers;
    });
    if (found == sequences.end()) return {};
    const int64_t batch = found - sequences.begin();
    CheckedCandidate checked;
    for (const Compared& each : is_backward() ? compare_gradients(batch) : compare_outputs(batch)) {
      const double error = relative_error(each.computed, each.reference);
      checked.reference_error = std::max(checked.reference_error.value_or(0), error);
      if (error <= kMostError || checked.verdict.status == autotune::RunStatus::kWrong) continue;
      checked.verdict = {
          .status = autotune::RunStatus::kWrong,
          .us = 0,
          .reason = fmt::format("its {} is {:.2g} from double precision, at most {} is rounding; please report it",
                                each.tensor, error, kMostError)};
    }
    return checked;
  }

  /// That a reference reads on the host: forward K and V, backward what one key head and its query heads have.
  int64_t numbers_of(const Sequence& sequence) const {
    const Shape& shape = workload_.shape;
    const int64_t columns = shape.head_dim + shape.value_dim;
    if (!is_backward()) return sequence.key_length * shape.kv_heads * columns;
    return sequence.key_length * columns +
           sequence.query_length * (columns + shape.value_dim) * shape.heads / shape.kv_heads;
  }

  BoundPattern bound_pattern() const {
    const LengthDraw& draw = draws_.front();
    return harrier::bind(workload_.pattern, workload_.shape, lower_pattern(workload_.pattern, workload_.shape),
                         draw.geometry, draw.bindings);
  }

  /// What the default computed of some rows, and double precision.
  struct Compared {
    const char* tensor;
    std::vector<float> computed;
    std::vector<float> reference;
  };

  /// Places of the first few sampled rows that belong to a sequence.
  static std::vector<size_t> sampled_of(const SampledRows& rows, int64_t first, int64_t count) {
    std::vector<size_t> places;
    for (size_t i = 0; i < rows.tokens.size() && places.size() < kReferenceTokens; ++i) {
      if (rows.tokens[i] >= first && rows.tokens[i] < first + count) places.push_back(i);
    }
    return places;
  }

  /// Columns [begin, end) of these rows, which have `size`.
  static std::vector<float> columns_of(const SampledRows& rows, const std::vector<size_t>& places, int64_t size,
                                       int64_t begin, int64_t end) {
    std::vector<float> values;
    for (const size_t place : places) {
      const auto row = rows.values.begin() + static_cast<std::ptrdiff_t>(place) * size;
      values.insert(values.end(), row + begin, row + end);
    }
    return values;
  }

  std::vector<Compared> compare_outputs(int64_t batch) const {
    const LengthDraw& draw = draws_.front();
    const Shape& shape = workload_.shape;
    const Sequence& sequence = draw.geometry.sequences[static_cast<size_t>(batch)];
    const SampledRows& rows = expected_.front().front();
    const std::vector<size_t> places = sampled_of(rows, sequence.query_token, sequence.query_length);
    if (places.empty()) return {};
    std::vector<int64_t> tokens;
    for (const size_t place : places) tokens.push_back(rows.tokens[place]);
    const TuneBench::HostTensors inputs = bench_.inputs(tokens, sequence.key_token, sequence.key_length);
    const BoundPattern bound = bound_pattern();
    std::vector<float> reference;
    for (size_t i = 0; i < tokens.size(); ++i) {
      const std::vector<float> out =
          sampled_reference(workload_, bound, draw.geometry,
                            {.batch = batch,
                             .query = tokens[i] - sequence.query_token,
                             .q = inputs.q.data() + static_cast<std::ptrdiff_t>(i) * shape.heads * shape.head_dim,
                             .k = inputs.k.data(),
                             .v = inputs.v.data()});
      reference.insert(reference.end(), out.begin(), out.end());
    }
    const int64_t size = shape.heads * shape.value_dim;
    return {{rows.tensor, columns_of(rows, places, size, 0, size), std::move(reference)}};
  }

  /// Of the last key head and the query heads that read it.
  std::vector<Compared> compare_gradients(int64_t batch) const {
    const LengthDraw& draw = draws_.front();
    const Shape& shape = workload_.shape;
    const Sequence& sequence = draw.geometry.sequences[static_cast<size_t>(batch)];
    const std::vector<SampledRows>& rows = expected_.front();
    const std::vector<size_t> query_places = sampled_of(rows[0], sequence.query_token, sequence.query_length);
    const std::vector<size_t> key_places = sampled_of(rows[1], sequence.key_token, sequence.key_length);
    std::vector<int64_t> queries;
    for (const size_t place : query_places) queries.push_back(rows[0].tokens[place] - sequence.query_token);
    std::vector<int64_t> keys;
    for (const size_t place : key_places) keys.push_back(rows[1].tokens[place] - sequence.key_token);
    const int64_t kv_head = shape.kv_heads - 1;
    const TuneBench::GradientTensors inputs = bench_.gradient_inputs(0, sequence, kv_head);
    SampledGradients reference = sampled_gradients(workload_, bound_pattern(), draw.geometry,
                                                   {.batch = batch,
                                                    .kv_head = kv_head,
                                                    .q = inputs.q.data(),
                                                    .out = inputs.out.data(),
                                                    .d_out = inputs.d_out.data(),
                                                    .lse = inputs.lse.data(),
                                                    .k = inputs.k.data(),
                                                    .v = inputs.v.data()},
                                                   queries, keys);
    const auto last = [&](const SampledRows& sampled, const std::vector<size_t>& places, int64_t heads,
                          int64_t heads_taken, int64_t columns) {
      return columns_of(sampled, places, heads * columns, (heads - heads_taken) * columns, heads * columns);
    };
    const int64_t group = shape.heads / shape.kv_heads;
    return {{rows[0].tensor, last(rows[0], query_places, shape.heads, group, shape.head_dim), std::move(reference.d_q)},
            {rows[1].tensor, last(rows[1], key_places, shape.kv_heads, 1, shape.head_dim), std::move(reference.d_k)},
            {rows[2].tensor, last(rows[2], key_places, shape.kv_heads, 1, shape.value_dim), std::move(reference.d_v)}};
  }

  Workload workload_;
  const std::vector<LengthDraw>& draws_;
  Gpu gpu_;
  LocalRunnerOptions options_;
  autotune::Choice default_;
  TuneBench bench_;
  std::mutex mutex_;  // of kernels_
  std::map<std::string, CudaKernel> kernels_;
  std::map<std::pair<std::string, size_t>, CudaLaunch> launches_;
  std::vector<std::vector<SampledRows>> expected_;  // of the default, for each draw
};

}  // namespace

CandidateRunner local_runner(const Workload& workload, const std::vector<LengthDraw>& draws, const Gpu& gpu,
                             const LocalRunnerOptions& options) {
  auto runner = std::make_shared<LocalRunner>(workload, draws, gpu, options);
  return {.compile = [runner](const autotune::Choice& choice,
                              const std::stop_token& stop) { return runner->compile(choice, stop); },
          .check = [runner](const autotune::Choice& choice) { return runner->check(choice); },
          .measure = [runner](const autotune::Choice& choice, size_t draw) { return runner->measure(choice, draw); },
          .release = [runner](const autotune::Choice& choice) { runner->release(choice); }};
}

CudaPlan default_plan_of(const Workload& workload, const CudaTarget& target) {
  Workload simplified = workload;
  simplified.pattern = simplify(workload.pattern);
  return choose_cuda_plan(simplified, family_of(target.architecture));
}

autotune::CompileVerdict verdict_of(const cuda::CudaBinary& binary, bool is_default) {
  autotune::CompileVerdict verdict;
  for (const cuda::EntryUse& entry : binary.entries) verdict.registers = std::max(verdict.registers, entry.registers);
  const std::string_view image(binary.image.data(), binary.image.size());
  verdict.fingerprint = fmt::format("{}:{:x}", image.size(), std::hash<std::string_view>{}(image));
  verdict.reason = is_default ? std::string() : complaint_of(binary);
  verdict.usable = verdict.reason.empty();
  return verdict;
}

}  // namespace harrier
