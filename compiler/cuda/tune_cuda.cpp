#include "compiler/cuda/tune_cuda.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <string_view>
#include <thread>

#include "compiler/bind.h"
#include "compiler/cuda/cuda_code.h"
#include "compiler/cuda/sampled_reference.h"
#include "compiler/cuda/tune_bench.h"
#include "compiler/passes/lower_pattern.h"
#include "ir/error.h"

namespace harrier {
namespace {

/// Two right outputs in 16 bits are apart by what rounding makes of other orders of summing.
constexpr double kMostError = 0.02;
constexpr size_t kQuickCodes = 16;
constexpr size_t kFullCodes = 256;
constexpr int kQuickRounds = 12;
constexpr int kFullRounds = 30;
constexpr size_t kReferenceQueries = 4;
constexpr int64_t kMostReferenceNumbers = int64_t{1} << 26;  // of K and V that are brought to the host

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// What plans are grouped by: one of each is tried before a second of any.
std::string structure_of(const CudaPlan& plan) {
  return fmt::format("{} queries, {} CTAs", 64 * plan.consumers, plan.ctas_per_sm);
}

class Tuner {
 public:
  Tuner(const Workload& workload, const std::vector<LengthDraw>& draws, const Gpu& gpu, const TuneOptions& options)
      : workload_(workload), draws_(draws), gpu_(gpu), options_(options) {}

  Tuning run() {
    const CudaTarget target = target_with(options_.compile);
    const std::vector<RankedPlan> ranked =
        model_plans(workload_, draws_, target, device_model_of(gpu_.device->facts()));
    std::vector<autotune::SearchCandidate> candidates;
    std::vector<CudaPlan> plans;
    for (const RankedPlan& entry : ranked) add(entry, plans, candidates);
    autotune::SearchOptions search = search_options();
    if (options_.incumbent) search.incumbent = index_of(*options_.incumbent, plans, candidates);
    for (size_t i = 1; i < candidates.size() && options_.is_quarantined; ++i) {
      if (!options_.is_quarantined(choice(i))) continue;
      search.quarantined.push_back(i);
      if (search.incumbent == i) search.incumbent.reset();
    }
    bench_.emplace(gpu_, workload_.shape, draws_, options_.seed);
    const autotune::SearchResult result = autotune::search(candidates, search, hooks());
    take_over(result, ranked.front().us);
    return std::move(tuning_);
  }

 private:
  CudaTarget target_with(const CudaCompileOptions& compile) const {
    CudaTarget target = target_of(gpu_);
    if (!compile.architecture.empty()) target.architecture = compile.architecture;
    return target;
  }

  void add(const RankedPlan& entry, std::vector<CudaPlan>& plans, std::vector<autotune::SearchCandidate>& candidates) {
    const auto found = std::ranges::find(plans, entry.choice.plan);
    const auto code = static_cast<size_t>(found - plans.begin());
    if (found == plans.end()) plans.push_back(entry.choice.plan);
    candidates.push_back({.text = autotune::to_text(entry.choice),
                          .code = code,
                          .structure = structure_of(entry.choice.plan),
                          .predicted_us = entry.us,
                          .shared_bytes = shared_bytes(entry.choice.plan, workload_.shape)});
    tuning_.candidates.push_back(
        {.choice = entry.choice, .predicted_us = entry.us / static_cast<double>(draws_.size()), .trial = {}});
  }

  /// An incumbent may be of a space that has changed since: then it is added.
  size_t index_of(const autotune::Choice& choice, std::vector<CudaPlan>& plans,
                  std::vector<autotune::SearchCandidate>& candidates) {
    const auto found = std::ranges::find(tuning_.candidates, choice, &TunedCandidate::choice);
    if (found != tuning_.candidates.end()) return static_cast<size_t>(found - tuning_.candidates.begin());
    verify(choice.plan, workload_.shape);
    add({.choice = choice, .us = candidates.front().predicted_us}, plans, candidates);
    return candidates.size() - 1;
  }

  autotune::SearchOptions search_options() const {
    autotune::SearchOptions search;
    search.budget_seconds = options_.budget_seconds;
    search.seed = options_.seed;
    const auto cores = static_cast<int>(std::thread::hardware_concurrency());
    search.compile_threads = options_.compile_threads > 0 ? options_.compile_threads : std::max(cores, 1);
    search.most_codes = options_.full ? kFullCodes : kQuickCodes;
    if (options_.most_codes > 0) search.most_codes = options_.most_codes;
    search.draws = draws_.size();
    search.final_rounds = options_.full ? kFullRounds : kQuickRounds;
    search.finalists = options_.full ? 8 : 4;
    search.stop = options_.stop;
    return search;
  }

  autotune::SearchHooks hooks() {
    autotune::SearchHooks hooks;
    hooks.compile = [this](size_t candidate, const std::stop_token& stop) { return compile(candidate, stop); };
    hooks.check = [this](size_t candidate) { return check(candidate); };
    hooks.measure = [this](size_t candidate, size_t draw) { return measure(candidate, draw); };
    hooks.now = options_.now ? options_.now : seconds_now;
    hooks.release = [this](size_t candidate) {
      std::erase_if(launches_, [&](const auto& entry) { return entry.first.first == candidate; });
    };
    if (options_.progress) {
      hooks.progress = [this](const autotune::SearchProgress& progress) {
        options_.progress({.done = progress.done,
                           .total = progress.total,
                           .seconds_left = progress.seconds_left,
                           .ratio = progress.ratio});
      };
    }
    if (options_.begin) hooks.begin = [this](size_t candidate) { options_.begin(choice(candidate)); };
    if (options_.survived) hooks.survived = [this](size_t candidate) { options_.survived(choice(candidate)); };
    return hooks;
  }

  const autotune::Choice& choice(size_t candidate) const { return tuning_.candidates[candidate].choice; }

  autotune::CompileVerdict compile(size_t candidate, const std::stop_token& stop) {
    CudaCompileOptions compile = options_.compile;
    compile.stop = stop;
    compile.use_tunings = false;
    const bool is_default = candidate == 0;
    // The default is compiled as it always is, with a roomier plan where the pattern needs one.
    compile.plan = is_default ? std::nullopt : std::optional(choice(candidate).plan);
    const CudaKernel kernel = compile_cuda(workload_, gpu_, compile);
    autotune::CompileVerdict verdict;
    for (const cuda::EntryUse& entry : kernel.binary().entries) {
      verdict.registers = std::max(verdict.registers, entry.registers);
    }
    const std::string_view image(kernel.binary().image.data(), kernel.binary().image.size());
    verdict.fingerprint = fmt::format("{}:{:x}", image.size(), std::hash<std::string_view>{}(image));
    const std::string complaint = is_default ? std::string() : complaint_of(kernel.binary());
    verdict.usable = complaint.empty();
    verdict.reason = complaint;
    const std::lock_guard lock(mutex_);
    kernels_.insert_or_assign(autotune::to_text(choice(candidate).plan), kernel);
    return verdict;
  }

  const CudaKernel& kernel_of(size_t candidate) {
    const std::lock_guard lock(mutex_);
    const auto found = kernels_.find(autotune::to_text(choice(candidate).plan));
    HARRIER_CHECK(found != kernels_.end(), "a candidate runs after its code was compiled");
    return found->second;
  }

  const CudaLaunch& launch_of(size_t candidate, size_t draw) {
    const auto place = std::pair(candidate, draw);
    const auto found = launches_.find(place);
    if (found != launches_.end()) return found->second;
    return launches_.emplace(place, bench_->prepare(kernel_of(candidate), choice(candidate).schedule, draw))
        .first->second;
  }

  autotune::RunVerdict check(size_t candidate) {
    for (size_t draw = 0; draw < draws_.size(); ++draw) {
      const SampledRows rows = bench_->sample(launch_of(candidate, draw), draw);
      if (candidate == 0) {
        expected_.push_back(rows);
        continue;
      }
      const double error = relative_error(rows.values, expected_[draw].values);
      if (!(error <= kMostError)) {
        return {.status = autotune::RunStatus::kWrong,
                .us = 0,
                .reason =
                    fmt::format("its output is {:.2g} from the default's, at most {} is rounding", error, kMostError)};
      }
    }
    return candidate == 0 ? check_default() : autotune::RunVerdict{};
  }

  /// Some queries of the first sequence that is not too long, in double precision.
  autotune::RunVerdict check_default() {
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
    const TuneBench::HostTensors inputs = bench_->inputs(tokens, found->key_token, found->key_length);
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
    tuning_.reference_error = relative_error(computed, reference);
    if (*tuning_.reference_error <= kMostError) return {};
    return {
        .status = autotune::RunStatus::kWrong,
        .us = 0,
        .reason = fmt::format("its output is {:.2g} from double precision, at most {} is rounding; please report it",
                              *tuning_.reference_error, kMostError)};
  }

  autotune::RunVerdict measure(size_t candidate, size_t draw) {
    const CudaLaunch& launch = launch_of(candidate, draw);
    if (!options_.timed_us) return {.status = autotune::RunStatus::kGood, .us = bench_->time_us(launch), .reason = {}};
    bench_->run(launch);
    return {.status = autotune::RunStatus::kGood, .us = options_.timed_us(choice(candidate), draw), .reason = {}};
  }

  void take_over(const autotune::SearchResult& result, double predicted_us) {
    tuning_.workload = workload_;
    for (size_t i = 0; i < result.trials.size(); ++i) tuning_.candidates[i].trial = result.trials[i];
    tuning_.winner = result.winner;
    tuning_.default_us = result.default_us;
    tuning_.tuned_us = result.winner_us;
    tuning_.ratio = result.ratio;
    tuning_.time_factor = result.default_us * static_cast<double>(draws_.size()) / predicted_us;
    tuning_.rounds = result.rounds;
    tuning_.measurements = result.measurements;
    tuning_.seconds = result.seconds;
    tuning_.out_of_time = result.out_of_time;
    tuning_.stopped = result.stopped;
    tuning_.device_lost = result.device_lost;
    const Shape& shape = workload_.shape;
    double pairs = 0;
    double tokens = 0;
    for (const LengthDraw& draw : draws_) {
      pairs += static_cast<double>(count_visible_pairs(workload_.pattern, shape, draw.geometry, draw.bindings));
      tokens += static_cast<double>(draw.geometry.query_tokens);
    }
    constexpr double kElementBytes = 2;
    tuning_.least_bytes = tokens *
                          static_cast<double>((shape.heads + shape.kv_heads) * (shape.head_dim + shape.value_dim)) *
                          kElementBytes / static_cast<double>(draws_.size());
    tuning_.useful_flops =
        2 * static_cast<double>(shape.head_dim + shape.value_dim) * pairs / static_cast<double>(draws_.size());
  }

  const Workload& workload_;
  const std::vector<LengthDraw>& draws_;
  Gpu gpu_;
  const TuneOptions& options_;
  Tuning tuning_;
  std::optional<TuneBench> bench_;
  std::mutex mutex_;  // of kernels_
  std::map<std::string, CudaKernel> kernels_;
  std::map<std::pair<size_t, size_t>, CudaLaunch> launches_;
  std::vector<SampledRows> expected_;  // of the default, for each draw
};

}  // namespace

Tuning tune_cuda(const Workload& workload, const std::vector<LengthDraw>& draws, const Gpu& gpu,
                 const TuneOptions& options) {
  if (draws.empty()) throw InvalidInput("0 draws of lengths are given to tune for, the least is 1: draw some");
  for (const LengthDraw& draw : draws) {
    if (draw.geometry.query_tokens == 0) {
      throw InvalidInput("a draw of lengths has 0 tokens, the least to tune for is 1: raise the shortest length");
    }
  }
  return Tuner(workload, draws, gpu, options).run();
}

}  // namespace harrier
