#include <fmt/core.h>
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/draw_batches.h"
#include "cli/json_text.h"
#include "cli/tuning_commands.h"
#include "compiler/cuda/choose_cuda_plan.h"
#include "compiler/cuda/tuning_store.h"
#include "runtime/cuda/driver.h"

namespace harrier {
namespace {

/// What the workload runs with where no rung has another plan.
CudaPlan plan_taken(const autotune::LadderAnswer& answer, const Workload& workload, CudaFamily family) {
  return answer.choice ? answer.choice->plan : choose_cuda_plan(workload, family);
}

nlohmann::ordered_json json_of(const autotune::RateCalibration& calibration) {
  nlohmann::ordered_json json;
  for (size_t i = 0; i < autotune::kRates; ++i) json[std::string(autotune::kRateNames[i])] = calibration.factor[i];
  json["measurements"] = calibration.measurements;
  return json;
}

std::string describe(const autotune::RateCalibration& calibration) {
  if (calibration.measurements == 0) return "of the family: tuning measures them for this GPU";
  std::string text = fmt::format("from {} measurements here, over the family's:", calibration.measurements);
  for (size_t i = 0; i < autotune::kRates; ++i) {
    text += fmt::format(" {} {:.2f}", autotune::kRateNames[i], calibration.factor[i]);
  }
  return text;
}

}  // namespace

int explain_command(const ExplainOptions& options, Streams& streams) {
  const Workload workload = read_workload(options.file);
  const auto driver = cuda::load_driver();
  const cuda::DeviceFacts facts = cuda::find_devices(*driver).front();
  const CudaTarget target{.architecture = cuda::architecture_of(facts),
                          .multiprocessors = facts.multiprocessors,
                          .l2_bytes = facts.l2_bytes};
  const StoreHandle store = open_store({.read_only = true, .warn = [&streams](const std::string& line) {
                                          fmt::print(streams.error, "warning: {}\n", line);
                                        }});
  const autotune::LadderAnswer answer = answer_from_store(*store, facts, workload);
  const DrawnBatches batches = draw_batches(workload, {}, 1, 1);
  const autotune::RateCalibration calibration = known_calibration(*store, facts);
  const autotune::ModelAnswer model = ask_model(workload, batches.draws, target, device_model_of(facts, calibration));
  const CudaPlan plan = plan_taken(answer, workload, family_of(target.architecture));
  const std::string schedule = answer.choice && answer.choice->schedule ? print(*answer.choice->schedule)
                                                                        : "chosen from the lengths of a launch";
  if (options.json) {
    nlohmann::ordered_json rungs = nlohmann::ordered_json::array();
    for (const autotune::RungReport& rung : answer.rungs) {
      rungs.push_back({{"rung", autotune::code_of(rung.rung)}, {"answered", rung.answered}, {"why", rung.why}});
    }
    print_json({{"file", options.file},
                {"workload", workload.name},
                {"device", facts.name},
                {"silicon", cuda::silicon_key(facts)},
                {"store", store->path()},
                {"answer", autotune::code_of(answer.rung)},
                {"reason", answer.reason},
                {"plan", print(plan, workload.shape.direction)},
                {"schedule", schedule},
                {"regret", answer.regret},
                {"rungs", rungs},
                {"model",
                 {{"plan", print(model.choice.plan, workload.shape.direction)},
                  {"us", model.us},
                  {"default_us", model.default_us}}},
                {"calibration", json_of(calibration)}},
               streams.out);
    return kSuccess;
  }
  fmt::print(streams.out, "{} on {}: {}\n", workload.name, facts.name, autotune::code_of(answer.rung));
  for (const autotune::RungReport& rung : answer.rungs) {
    fmt::print(streams.out, "  {} {:<18} {}\n", rung.answered ? ">" : " ", autotune::code_of(rung.rung), rung.why);
  }
  fmt::print(streams.out, "plan      {}\nschedule  {}\nslower than the best plan by {:.0f} % perhaps\n",
             print(plan, workload.shape.direction), schedule, 100 * answer.regret);
  fmt::print(streams.out, "cost model, which is not asked: {:.1f} us for the default, {:.1f} us for {}\n",
             model.default_us, model.us, print(model.choice.plan, workload.shape.direction));
  fmt::print(streams.out, "its rates  {}\n", describe(calibration));
  return kSuccess;
}

}  // namespace harrier
