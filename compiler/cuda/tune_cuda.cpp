#include "compiler/cuda/tune_cuda.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>

#include "compiler/cuda/runners/local_runner.h"
#include "ir/error.h"

namespace harrier {
namespace {

constexpr size_t kQuickCodes = 16;
constexpr size_t kFullCodes = 256;
constexpr int kQuickRounds = 12;
constexpr int kFullRounds = 30;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// What plans are grouped by: one of each is tried before a second of any.
std::string structure_of(const CudaPlan& plan, Direction direction) {
  const std::string rows = fmt::format("{} queries, {} CTAs", 64 * plan.consumers, plan.ctas_per_sm);
  return direction == Direction::kForward ? rows : rows + fmt::format(", {} keys", plan.tile_k);
}

/// Flops that a pair and a head need, and bytes of tensors that a launch of so many tokens reads or writes at least.
struct LeastWork {
  double flops_of_pair;
  double bytes_of_token;
};

LeastWork least_work(const Shape& shape) {
  constexpr int64_t kElementBytes = 2;
  const int64_t head_dim = shape.head_dim, value_dim = shape.value_dim;
  if (shape.direction == Direction::kForward) {
    return {
        .flops_of_pair = static_cast<double>(2 * (head_dim + value_dim)),
        .bytes_of_token = static_cast<double>((shape.heads + shape.kv_heads) * (head_dim + value_dim) * kElementBytes)};
  }
  // q, k, v, out and their gradients. out's is read as it is.
  return {.flops_of_pair = static_cast<double>(2 * (3 * head_dim + 2 * value_dim)),
          .bytes_of_token =
              static_cast<double>(2 * (shape.heads + shape.kv_heads) * (head_dim + value_dim) * kElementBytes)};
}

class Tuner {
 public:
  Tuner(const CandidateRunner& runner, const Workload& workload, const std::vector<LengthDraw>& draws,
        const cuda::DeviceFacts& facts, const TuneOptions& options)
      : runner_(runner), workload_(workload), draws_(draws), facts_(facts), options_(options) {}

  Tuning run() {
    const CudaTarget target = target_on(facts_, options_.compile);
    PlanCosts costs(workload_, draws_, target);
    const autotune::DeviceModel device = device_model_of(facts_, options_.calibration);
    std::vector<RankedPlan> ranked;
    for (const autotune::Choice& each : costs.choices()) {
      ranked.push_back({.choice = each, .us = costs.us(each, device)});
    }
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
    const autotune::SearchResult result = autotune::search(candidates, search, hooks());
    take_over(result);
    learn(costs);
    return std::move(tuning_);
  }

 private:
  void add(const RankedPlan& entry, std::vector<CudaPlan>& plans, std::vector<autotune::SearchCandidate>& candidates) {
    const auto found = std::ranges::find(plans, entry.choice.plan);
    const auto code = static_cast<size_t>(found - plans.begin());
    if (found == plans.end()) plans.push_back(entry.choice.plan);
    candidates.push_back({.text = autotune::to_text(entry.choice),
                          .code = code,
                          .structure = structure_of(entry.choice.plan, workload_.shape.direction),
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
    hooks.compile = [this](size_t candidate, const std::stop_token& stop) {
      return runner_.compile(choice(candidate), stop);
    };
    hooks.check = [this](size_t candidate) {
      const CheckedCandidate checked = runner_.check(choice(candidate));
      if (candidate == 0) tuning_.reference_error = checked.reference_error;
      return checked.verdict;
    };
    hooks.measure = [this](size_t candidate, size_t draw) { return runner_.measure(choice(candidate), draw); };
    hooks.now = options_.now ? options_.now : seconds_now;
    hooks.release = [this](size_t candidate) { runner_.release(choice(candidate)); };
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
    if (options_.failed) {
      hooks.failed = [this](size_t candidate, const std::string& why) { options_.failed(choice(candidate), why); };
    }
    return hooks;
  }

  const autotune::Choice& choice(size_t candidate) const { return tuning_.candidates[candidate].choice; }

  void take_over(const autotune::SearchResult& result) {
    tuning_.workload = workload_;
    for (size_t i = 0; i < result.trials.size(); ++i) tuning_.candidates[i].trial = result.trials[i];
    tuning_.winner = result.winner;
    tuning_.default_us = result.default_us;
    tuning_.tuned_us = result.winner_us;
    tuning_.ratio = result.ratio;
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
    const LeastWork least = least_work(shape);
    const auto draws = static_cast<double>(draws_.size());
    tuning_.least_bytes = least.bytes_of_token * tokens / draws;
    tuning_.useful_flops = least.flops_of_pair * pairs / draws;
  }

  /// From the best of each code: the other schedules say little more.
  void learn(PlanCosts& costs) {
    std::map<std::string, autotune::TimedLaunch> launches;
    for (const TunedCandidate& candidate : tuning_.candidates) {
      double us = 0;
      for (const std::vector<double>& draw : candidate.trial.us) us += autotune::median_of(draw);
      const bool is_whole = std::ranges::none_of(candidate.trial.us, &std::vector<double>::empty);
      autotune::TimedLaunch& best = launches[autotune::to_text(candidate.choice.plan)];
      if (!is_whole || (best.us > 0 && best.us <= us)) continue;
      best = {.model_us = [&](const autotune::DeviceModel& device) { return costs.us(candidate.choice, device); },
              .us = us};
    }
    std::vector<autotune::TimedLaunch> timed;
    for (const auto& [plan, launch] : launches) timed.push_back(launch);
    tuning_.calibration = autotune::calibrate(options_.calibration, device_model_of(facts_), timed);
  }

  const CandidateRunner& runner_;
  const Workload& workload_;
  const std::vector<LengthDraw>& draws_;
  const cuda::DeviceFacts& facts_;
  const TuneOptions& options_;
  Tuning tuning_;
};

void check_draws(const std::vector<LengthDraw>& draws) {
  if (draws.empty()) throw InvalidInput("0 draws of lengths are given to tune for, the least is 1: draw some");
  for (const LengthDraw& draw : draws) {
    if (draw.geometry.query_tokens == 0) {
      throw InvalidInput("a draw of lengths has 0 tokens, the least to tune for is 1: raise the shortest length");
    }
  }
}

}  // namespace

CudaTarget target_on(const cuda::DeviceFacts& facts, const CudaCompileOptions& compile) {
  return {.architecture = compile.architecture.empty() ? cuda::architecture_of(facts) : compile.architecture,
          .multiprocessors = facts.multiprocessors,
          .l2_bytes = facts.l2_bytes};
}

Tuning tune_cuda(const Workload& workload, const std::vector<LengthDraw>& draws, const Gpu& gpu,
                 const TuneOptions& options) {
  check_draws(draws);
  const CandidateRunner runner = local_runner(
      workload, draws, gpu, {.compile = options.compile, .seed = options.seed, .timed_us = options.timed_us});
  return tune_cuda(runner, workload, draws, gpu.device->facts(), options);
}

Tuning tune_cuda(const CandidateRunner& runner, const Workload& workload, const std::vector<LengthDraw>& draws,
                 const cuda::DeviceFacts& facts, const TuneOptions& options) {
  check_draws(draws);
  return Tuner(runner, workload, draws, facts, options).run();
}

}  // namespace harrier
