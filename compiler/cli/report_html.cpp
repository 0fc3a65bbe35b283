#include "cli/report_html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace harrier {
namespace {

constexpr double kWidth = 860;
constexpr double kLabelWidth = 60;
constexpr double kLineHeight = 16;

constexpr const char* kHead = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Harrier: tunings</title>
<style>
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 900px; padding: 0 1em; color: #222; background: #fff; }
h1 { font-size: 1.5em; } h2 { font-size: 1.1em; margin-top: 2.5em; }
code { font-size: 0.92em; } table { border-collapse: collapse; font-size: 12px; width: 100%; }
td, th { text-align: left; padding: 2px 8px 2px 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td.n, th.n { text-align: right; white-space: nowrap; } tr.w td { background: #e7f3ea; } tr.d td { background: #eef1f7; }
svg { display: block; margin: 0.8em 0; } svg text { font: 11px system-ui, sans-serif; fill: #444; }
.note { color: #666; }
</style></head><body>
<h1>Harrier: tunings</h1>
)";

/// Timed trials, fastest first.
std::vector<ReportedTrial> timed(const ReportedTuning& tuning) {
  std::vector<ReportedTrial> trials;
  for (const ReportedTrial& trial : tuning.trials) {
    if (trial.p50_us > 0) trials.push_back(trial);
  }
  std::ranges::stable_sort(trials, {}, &ReportedTrial::p50_us);
  return trials;
}

const char* color_of(const ReportedTrial& trial) {
  return trial.is_winner ? "#2a8a47" : trial.is_default ? "#3058a8" : "#888";
}

/// A line for each candidate: the middle three fifths of its times, their median, and what the model expected.
std::string spread_chart(const std::vector<ReportedTrial>& trials) {
  double most = 0;
  for (const ReportedTrial& trial : trials) most = std::max({most, trial.p80_us, trial.predicted_us});
  const double height = kLineHeight * static_cast<double>(trials.size()) + 30;
  const auto x = [&](double us) { return kLabelWidth + us / most * (kWidth - kLabelWidth - 20); };
  std::string svg = fmt::format(
      "<svg role=\"img\" aria-label=\"times of candidates\" width=\"{:.0f}\" height=\"{:.0f}\">\n", kWidth, height);
  double y = kLineHeight / 2;
  for (const ReportedTrial& trial : trials) {
    svg += fmt::format(
        "<g><title>{}, {}</title><line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" "
        "stroke-width=\"5\"/><circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\"/><path d=\"M{:.1f} {:.1f}v10\" "
        "stroke=\"#c0392b\"/><text x=\"0\" y=\"{:.1f}\">{:.1f} us</text></g>\n",
        escape_html(trial.plan), escape_html(trial.schedule), x(trial.p20_us), y, x(trial.p80_us), y, color_of(trial),
        x(trial.p50_us), y, color_of(trial), x(trial.predicted_us), y - 5, y + 4, trial.p50_us);
    y += kLineHeight;
  }
  svg += fmt::format("<path d=\"M{:.1f} 0V{:.1f}H{:.0f}\" fill=\"none\" stroke=\"#999\"/>", kLabelWidth, y, kWidth);
  svg += fmt::format(
      "<text x=\"{:.1f}\" y=\"{:.1f}\">0</text><text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{:.1f} "
      "us</text></svg>\n",
      kLabelWidth, y + 14, x(most), y + 14, most);
  return svg;
}

/// Work for each byte that must move against work for each second, both as logarithms; the roof is what the model knows
/// of the GPU.
std::string roofline_chart(const ReportedTuning& tuning) {
  if (tuning.useful_flops <= 0 || tuning.least_bytes <= 0 || tuning.tuned_us <= 0) return {};
  const autotune::DeviceModel& model = tuning.model;
  const double peak = static_cast<double>(model.multiprocessors) * model.flops_per_clock * model.clock_ghz / 1e3;
  const double terabytes = model.dram_gb_per_second / 1e3;
  const double intensity = tuning.useful_flops / tuning.least_bytes;
  const double reached = tuning.useful_flops / tuning.tuned_us / 1e6;
  const double before = tuning.default_us > 0 ? tuning.useful_flops / tuning.default_us / 1e6 : reached;
  constexpr double kHeight = 220;
  const double ridge = peak / terabytes;
  const double left = std::min(intensity, ridge) / 10;
  const double right = std::max(intensity, ridge) * 10;
  const double bottom = std::min({reached, before, left * terabytes}) / 2;
  const double top = peak * 2;
  const auto x = [&](double value) {
    return kLabelWidth + std::log(value / left) / std::log(right / left) * (kWidth - kLabelWidth - 20);
  };
  const auto y = [&](double value) { return kHeight - std::log(value / bottom) / std::log(top / bottom) * kHeight; };
  return fmt::format(
      "<svg role=\"img\" aria-label=\"roofline\" width=\"{:.0f}\" height=\"{:.0f}\">\n"
      "<path d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}H{:.1f}\" fill=\"none\" stroke=\"#c0392b\" stroke-width=\"2\"/>\n"
      "<text x=\"{:.1f}\" y=\"{:.1f}\">{:.0f} TFLOP/s, 16-bit products</text>"
      "<text x=\"{:.1f}\" y=\"{:.1f}\">{:.2f} TB/s</text>\n"
      "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\" fill=\"#3058a8\"/><circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\" "
      "fill=\"#2a8a47\"/><text x=\"{:.1f}\" y=\"{:.1f}\">tuned: {:.0f} TFLOP/s at {:.0f} FLOP a byte, {:.0f} % of the "
      "roof</text>\n"
      "<path d=\"M{:.1f} 0V{:.0f}H{:.0f}\" fill=\"none\" stroke=\"#999\"/></svg>\n",
      kWidth, kHeight + 4, x(left), y(left * terabytes), x(ridge), y(peak), x(right), x(ridge) + 6, y(peak) - 6, peak,
      x(left) + 8, y(left * terabytes) - 12, terabytes, x(intensity), y(before), x(intensity), y(reached),
      x(intensity) + 9, y(reached) + 16, reached, intensity, 100 * reached / std::min(peak, intensity * terabytes),
      kLabelWidth, kHeight, kWidth);
}

std::string table_of(const ReportedTuning& tuning, const std::vector<ReportedTrial>& in_order) {
  std::string html =
      "<table><tr><th class=\"n\">us</th><th class=\"n\">of the default</th><th class=\"n\">model, us</th><th>plan</th>"
      "<th>schedule</th><th>outcome</th></tr>\n";
  const auto add = [&](const ReportedTrial& trial) {
    const std::string us = trial.p50_us > 0 ? fmt::format("{:.1f}", trial.p50_us) : std::string("-");
    const std::string ratio = trial.p50_us > 0 ? fmt::format("{:.1f} %", 100 * trial.ratio) : std::string("-");
    html += fmt::format(
        "<tr{}><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{:.1f}</td><td>{}</td><td>{}</td>"
        "<td>{}{}{}</td></tr>\n",
        trial.is_winner    ? " class=\"w\""
        : trial.is_default ? " class=\"d\""
                           : "",
        us, ratio, trial.predicted_us, escape_html(trial.plan), escape_html(trial.schedule),
        trial.is_winner ? "chosen" : escape_html(trial.status), trial.note.empty() ? "" : ": ",
        escape_html(trial.note));
  };
  for (const ReportedTrial& trial : in_order) add(trial);
  for (const ReportedTrial& trial : tuning.trials) {
    if (trial.p50_us <= 0) add(trial);
  }
  return html + "</table>\n";
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string escaped;
  for (const char letter : text) {
    switch (letter) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += letter;
    }
  }
  return escaped;
}

std::string report_html(const std::vector<ReportedTuning>& tunings) {
  std::string html = kHead;
  if (tunings.empty()) html += "<p>Nothing was tuned yet: run <code>harrier tune FILE.attn</code>.</p>\n";
  for (const ReportedTuning& tuning : tunings) {
    const std::vector<ReportedTrial> in_order = timed(tuning);
    html += fmt::format("<h2><code>{}</code></h2>\n<p>{}, {}<br><span class=\"note\">{}, {} effort</span></p>\n",
                        escape_html(tuning.pattern), escape_html(tuning.lengths), escape_html(tuning.device),
                        escape_html(tuning.when), escape_html(tuning.effort));
    if (tuning.tuned_us > 0) {
      html += fmt::format("<p>Default {:.1f} us, tuned {:.1f} us ({:+.1f} %).</p>\n", tuning.default_us,
                          tuning.tuned_us, 100 * (tuning.tuned_us / tuning.default_us - 1));
    }
    if (!in_order.empty()) {
      html +=
          "<p class=\"note\">Times of candidates: the middle three fifths, the median, and in red what the cost model "
          "expected. Green: chosen. Blue: the default.</p>\n" +
          spread_chart(in_order);
    }
    html += roofline_chart(tuning);
    html += table_of(tuning, in_order);
  }
  return html + "</body></html>\n";
}

}  // namespace harrier
