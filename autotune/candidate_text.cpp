#include "autotune/candidate_text.h"

#include <fmt/format.h>

#include <charconv>

namespace harrier::autotune {
namespace {

constexpr std::string_view kDefaultSchedule = "schedule=default";
constexpr std::string_view kFirstOfSchedule = " heads_per_group=";

/// Writes or reads `name=number` after `name=number`: one list of fields for both directions.
class Writer {
 public:
  template <typename Number>
  void field(const char* name, const Number& number) {
    text_ += fmt::format("{}{}={}", text_.empty() ? "" : " ", name, static_cast<int>(number));
  }
  /// Left out where it is false, as text that was written before there was such a field has it.
  void flag(const char* name, bool set) {
    if (set) field(name, set);
  }
  std::string text() const { return text_; }

 private:
  std::string text_;
};

class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  template <typename Number>
  void field(std::string_view name, Number& number) {
    if (!first_ && !take(" ")) return;
    first_ = false;
    if (!take(name) || !take("=")) return;
    int value = 0;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (error != std::errc()) {
      good_ = false;
      return;
    }
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    number = static_cast<Number>(value);
  }
  void flag(std::string_view name, bool& set) {
    set = good_ && rest_.size() > name.size() && rest_.front() == ' ' && rest_.substr(1).starts_with(name);
    if (set) field(name, set);
  }
  bool is_done() const { return good_ && rest_.empty(); }

 private:
  bool take(std::string_view expected) {
    good_ = good_ && rest_.starts_with(expected);
    if (good_) rest_.remove_prefix(expected.size());
    return good_;
  }

  std::string_view rest_;
  bool first_ = true;
  bool good_ = true;
};

template <typename Visitor, typename Plan>
void visit_plan(Visitor& visitor, Plan& plan) {
  visitor.field("family", plan.family);
  visitor.field("consumers", plan.consumers);
  visitor.field("tile_k", plan.tile_k);
  visitor.field("box_rows", plan.box_rows);
  visitor.field("row_blocks", plan.row_blocks);
  visitor.field("stages", plan.stages);
  visitor.field("query_stages", plan.query_stages);
  visitor.field("ping_pong", plan.ping_pong);
  visitor.field("consumer_registers", plan.consumer_registers);
  visitor.field("producer_registers", plan.producer_registers);
  visitor.field("warp_rows", plan.warp_rows);
  visitor.field("ctas_per_sm", plan.ctas_per_sm);
  visitor.field("fold_scale", plan.fold_scale);
  visitor.flag("deterministic", plan.deterministic);
}

template <typename Visitor, typename Schedule>
void visit_schedule(Visitor& visitor, Schedule& schedule) {
  visitor.field("heads_per_group", schedule.heads_per_group);
  visitor.field("split_tiles", schedule.split_tiles);
  visitor.field("split_capacity", schedule.split_capacity);
}

}  // namespace

std::string to_text(const CudaPlan& plan) {
  Writer writer;
  visit_plan(writer, plan);
  return writer.text();
}

std::string to_text(const CudaSchedule& schedule) {
  Writer writer;
  visit_schedule(writer, schedule);
  return writer.text();
}

std::optional<CudaPlan> plan_of(std::string_view text) {
  Reader reader(text);
  CudaPlan plan;
  visit_plan(reader, plan);
  // A number that no plan has (a family of 7) does not come out as it went in.
  const bool known = plan.family == CudaFamily::kSm90 || plan.family == CudaFamily::kSm80;
  if (!reader.is_done() || !known || to_text(plan) != text) return std::nullopt;
  return plan;
}

std::optional<CudaSchedule> schedule_of(std::string_view text) {
  Reader reader(text);
  CudaSchedule schedule;
  visit_schedule(reader, schedule);
  if (!reader.is_done() || to_text(schedule) != text) return std::nullopt;
  return schedule;
}

std::string to_text(const Choice& choice) {
  return to_text(choice.plan) + " " + (choice.schedule ? to_text(*choice.schedule) : std::string(kDefaultSchedule));
}

std::optional<Choice> choice_of(std::string_view text) {
  if (text.ends_with(kDefaultSchedule) && text.size() > kDefaultSchedule.size()) {
    const std::optional<CudaPlan> plan = plan_of(text.substr(0, text.size() - kDefaultSchedule.size() - 1));
    if (!plan) return std::nullopt;
    const Choice choice{.plan = *plan};
    return to_text(choice) == text ? std::optional(choice) : std::nullopt;
  }
  const size_t place = text.find(kFirstOfSchedule);
  if (place == std::string_view::npos) return std::nullopt;
  const std::optional<CudaPlan> plan = plan_of(text.substr(0, place));
  const std::optional<CudaSchedule> schedule = schedule_of(text.substr(place + 1));
  if (!plan || !schedule) return std::nullopt;
  return Choice{.plan = *plan, .schedule = schedule};
}

}  // namespace harrier::autotune
