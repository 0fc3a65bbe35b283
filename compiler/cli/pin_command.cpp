#include <fmt/format.h>
#include <fmt/ostream.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/json_text.h"
#include "cli/tune_inputs.h"
#include "cli/tuning_commands.h"
#include "compiler/cuda/tuning_store.h"
#include "ir/error.h"
#include "runtime/cuda/driver.h"

namespace harrier {
namespace {

using Json = nlohmann::ordered_json;

/// What the file says of the workload: itself, or the entry of its name where it is what `tune --json` printed.
autotune::Choice choice_for(const std::string& workload, const Json& plans, const std::string& path) {
  std::string text;
  try {
    if (plans.contains("choice")) text = plans.at("choice").get<std::string>();
    for (const Json& entry : plans.value("workloads", Json::array())) {
      if (entry.at("workload") == workload) text = entry.at("choice").get<std::string>();
    }
  } catch (const Json::exception& error) {
    throw InvalidInput(fmt::format("{}: {}: give what `harrier tune --json` printed", path, error.what()));
  }
  if (text.empty()) {
    throw InvalidInput(
        fmt::format("{}: has no plan for {}: give what `harrier tune --json` printed for it", path, workload));
  }
  const std::optional<autotune::Choice> choice = autotune::choice_of(text);
  if (!choice) {
    throw InvalidInput(
        fmt::format("{}: the choice \"{}\" is no plan with a schedule of this version: copy one from "
                    "`harrier tune --json`",
                    path, text));
  }
  return *choice;
}

Json read_plans(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw InvalidInput(fmt::format("{}: cannot be read: name a file that `harrier tune --json` wrote", path));
  Json plans = Json::parse(file, nullptr, false);
  if (!plans.is_object()) {
    throw InvalidInput(fmt::format("{}: not a JSON object: give what `harrier tune --json` printed", path));
  }
  return plans;
}

}  // namespace

int pin_command(const TuneCommandOptions& options, Streams& streams) {
  const Json plans = options.unpin ? Json() : read_plans(options.pin);
  const auto driver = cuda::load_driver();
  const cuda::DeviceFacts facts = cuda::find_devices(*driver).front();
  const StoreHandle store =
      open_store({.warn = [&streams](const std::string& line) { fmt::print(streams.error, "warning: {}\n", line); }});
  Json all = Json::array();
  for (const std::string& file : options.files) {
    const Workload workload = tuned_workload(file, options);
    Json row = {{"file", file}, {"workload", workload.name}};
    std::string what;
    if (options.unpin) {
      const bool was_pinned = unpin(*store, facts, workload);
      row["unpinned"] = was_pinned;
      what = was_pinned ? "no longer pinned" : "nothing was pinned";
    } else {
      const autotune::Choice choice = choice_for(workload.name, plans, options.pin);
      pin_choice(*store, facts, workload, choice, store->now_ms() / 1000);
      row["pinned"] = autotune::to_text(choice);
      what = "pinned: " + print(choice.plan, workload.shape.direction) +
             (choice.schedule ? "; " + print(*choice.schedule) : std::string());
    }
    all.push_back(row);
    if (!options.json) fmt::print(streams.out, "{} on {}: {}\n", workload.name, facts.name, what);
  }
  if (options.json) print_json({{"device", facts.name}, {"workloads", all}}, streams.out);
  return kSuccess;
}

}  // namespace harrier
