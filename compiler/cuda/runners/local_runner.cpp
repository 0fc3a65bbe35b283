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
constexpr size_t kReferenceQueries = 4;
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
        bench_(gpu, workload.shape, draws, options.seed) {}

  autotune::CompileVerdict compile(const autotune::Choice& choice, const std::stop_token& stop) {
    return verdict_of(compiled(choice, stop).binary(), choice.plan == default_.plan);
  }

  CheckedCandidate check(const autotune::Choice& choice) {
    take_expected();
    if (choice == default_) return check_default();
    for (size_t draw = 0; draw < draws_.size(); ++draw) {
      const SampledRows rows = bench_.sample(launch_of(choice, draw), draw);
      const double error = relative_error(rows.values, expected_[draw].values);
      if (error <= kMostError) continue;
      return {.verdict = {.status = autotune::RunStatus::kWrong,
                          .us = 0,
                          .reason = fmt::format("its output is {:.2g} from the default's, at most {} is rounding",
                                                error, kMostError)}};
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

  /// Some queries of the first sequence that is not too long, in double precision.
  CheckedCandidate check_default() {
    if (!has_sampled_reference(workload_.pattern)) return {};
    const LengthDraw& draw = draws_.front();
    const Shape& shape = workload_.shape;
    const auto& sequences = draw.geometry.sequences;
    const auto found = std::ranges::find_if(sequences, [&](const Sequence& sequence) {
      return sequence.query_length > 0 &&
             sequence.key_length * shape.kv_heads * (shape.head_dim + shape.value_dim) <= kMostReferenceNumbers;
    });
    if (found == sequences.end()) return {};
    const BoundPattern bound =
        harrier::bind(workload_.pattern, shape, lower_pattern(workload_.pattern, shape), draw.geometry, draw.bindings);
    std::vector<int64_t> tokens;
    std::vector<float> computed;
    const int64_t row = shape.heads * shape.value_dim;
    for (size_t i = 0; i < expected_.front().tokens.size() && tokens.size() < kReferenceQueries; ++i) {
      const int64_t token = expected_.front().tokens[i];
      if (token < found->query_token || token >= found->query_token + found->query_length) continue;
      tokens.push_back(token);
      const auto first = expected_.front().values.begin() + static_cast<std::ptrdiff_t>(i) * row;
      computed.insert(computed.end(), first, first + row);
    }
    if (tokens.empty()) return {};
    const TuneBench::HostTensors inputs = bench_.inputs(tokens, found->key_token, found->key_length);
    std::vector<float> reference;
    for (size_t i = 0; i < tokens.size(); ++i) {
      const std::vector<float> out =
          sampled_reference(workload_, bound, draw.geometry,
                            {.batch = found - sequences.begin(),
                             .query = tokens[i] - found->query_token,
                             .q = inputs.q.data() + static_cast<std::ptrdiff_t>(i) * shape.heads * shape.head_dim,
                             .k = inputs.k.data(),
                             .v = inputs.v.data()});
      reference.insert(reference.end(), out.begin(), out.end());
    }
    const double error = relative_error(computed, reference);
    if (error <= kMostError) return {.verdict = {}, .reference_error = error};
    return {.verdict = {.status = autotune::RunStatus::kWrong,
                        .us = 0,
                        .reason = fmt::format(
                            "its output is {:.2g} from double precision, at most {} is rounding; please report it",
                            error, kMostError)},
            .reference_error = error};
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
  std::vector<SampledRows> expected_;  // of the default, for each draw
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
