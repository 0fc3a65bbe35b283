// One HTML file about tunings that needs nothing beside it: no script, no font, no picture of elsewhere.
#pragma once

#include <string>
#include <vector>

#include "autotune/device_model.h"

namespace harrier {

/// A candidate as a row of the table and a line of the chart.
struct ReportedTrial {
  std::string plan = {};  // for people
  std::string schedule = {};
  std::string status = {};
  std::string note = {};
  double p20_us = 0;  // 0: not timed
  double p50_us = 0;
  double p80_us = 0;
  double predicted_us = 0;
  double ratio = 0;  // over the default, paired
  bool is_default = false;
  bool is_winner = false;
};

/// One workload on one GPU: the latest search of it.
struct ReportedTuning {
  std::string pattern = {};
  std::string lengths = {};
  std::string device = {};
  std::string when = {};  // "2026-11-23 12:00 UTC"
  std::string effort = {};
  double default_us = 0;
  double tuned_us = 0;
  double useful_flops = 0;  // 0: not known
  double least_bytes = 0;
  autotune::DeviceModel model = {};
  std::vector<ReportedTrial> trials = {};
};

/// `&`, `<`, `>` and quotes spelled out.
std::string escape_html(const std::string& text);

std::string report_html(const std::vector<ReportedTuning>& tunings);

}  // namespace harrier
