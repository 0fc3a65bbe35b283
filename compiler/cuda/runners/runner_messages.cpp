#include "compiler/cuda/runners/runner_messages.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

namespace harrier {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::pair<RunnerTask, std::string_view>, 3> kTasks = {
    {{RunnerTask::kCheck, "check"}, {RunnerTask::kMeasure, "measure"}, {RunnerTask::kRelease, "release"}}};

constexpr std::array<std::pair<autotune::RunStatus, std::string_view>, 6> kStatuses = {
    {{autotune::RunStatus::kGood, "good"},
     {autotune::RunStatus::kWrong, "wrong"},
     {autotune::RunStatus::kFailed, "failed"},
     {autotune::RunStatus::kTimedOut, "timed out"},
     {autotune::RunStatus::kDeviceLost, "device lost"},
     {autotune::RunStatus::kNoDevice, "no device"}}};

template <typename Table, typename Value>
std::string_view word_of(const Table& table, Value value) {
  return std::ranges::find(table, value, [](const auto& entry) { return entry.first; })->second;
}

template <typename Table>
auto value_of(const Table& table, const std::string& word) -> std::optional<decltype(table.front().first)> {
  const auto found = std::ranges::find(table, word, [](const auto& entry) { return entry.second; });
  if (found == table.end()) return std::nullopt;
  return found->first;
}

/// On one line, whatever bytes a driver's words have.
std::string line_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

std::string to_line(const RunnerRequest& request) {
  return line_of(
      {{"task", word_of(kTasks, request.task)}, {"choice", autotune::to_text(request.choice)}, {"draw", request.draw}});
}

std::string to_line(const CheckedCandidate& answer) {
  Json json = {{"status", word_of(kStatuses, answer.verdict.status)},
               {"us", answer.verdict.us},
               {"reason", answer.verdict.reason}};
  if (answer.reference_error) json["reference_error"] = *answer.reference_error;
  return line_of(json);
}

std::optional<RunnerRequest> request_of(const std::string& line) {
  try {
    const Json json = Json::parse(line);
    const auto task = value_of(kTasks, json.at("task").get<std::string>());
    const std::optional<autotune::Choice> choice = autotune::choice_of(json.at("choice").get<std::string>());
    if (!task || !choice) return std::nullopt;
    return RunnerRequest{.task = *task, .choice = *choice, .draw = json.at("draw").get<size_t>()};
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

std::optional<CheckedCandidate> answer_of(const std::string& line) {
  try {
    const Json json = Json::parse(line);
    const auto status = value_of(kStatuses, json.at("status").get<std::string>());
    if (!status) return std::nullopt;
    CheckedCandidate answer{.verdict = {.status = *status,
                                        .us = json.at("us").get<double>(),
                                        .reason = json.at("reason").get<std::string>()}};
    if (json.contains("reference_error")) answer.reference_error = json["reference_error"].get<double>();
    return answer;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

}  // namespace harrier
