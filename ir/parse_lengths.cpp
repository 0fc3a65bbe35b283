#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "ir/nearest_name.h"
#include "ir/parser.h"

namespace harrier {
namespace {

struct Kind {
  std::string_view name;
  std::string_view usage;
  LengthDistribution (*read)(Arguments&);
};

constexpr auto kKinds = std::to_array<Kind>({
    {"fixed", "fixed(n)",
     [](Arguments& arguments) -> LengthDistribution { return FixedLength{arguments.integer("n")}; }},
    {"uniform", "uniform(min, max)",
     [](Arguments& arguments) -> LengthDistribution {
       const int64_t min = arguments.integer("min");
       return UniformLength{.min = min, .max = arguments.integer("max")};
     }},
    {"lognormal", "lognormal(mean, sigma, min, max)",
     [](Arguments& arguments) -> LengthDistribution {
       const double mean = arguments.number("mean");
       const double sigma = arguments.number("sigma");
       const int64_t min = arguments.integer("min");
       return LognormalLength{.mean = mean, .sigma = sigma, .min = min, .max = arguments.integer("max")};
     }},
    {"trace", "trace(\"file.csv\")",
     [](Arguments& arguments) -> LengthDistribution {
       return TraceLength{.path = arguments.string("path"), .lengths = {}};
     }},
});

HistogramLength read_histogram(TokenCursor& cursor) {
  HistogramLength histogram;
  cursor.expect("(", "'(' as in histogram(512: 0.3, 1024: 0.7)");
  do {
    const int64_t length = read_integer(cursor, "a length, as in histogram(512: 0.3, 1024: 0.7)");
    cursor.expect(":", "':' and a weight");
    histogram.bins.push_back({.length = length, .weight = read_number(cursor, "a weight")});
  } while (cursor.accept(","));
  cursor.expect(")", "',' or ')'");
  return histogram;
}

}  // namespace

LengthDistribution read_lengths(TokenCursor& cursor) {
  const Token name = cursor.expect_kind(TokenKind::kWord, "fixed, uniform, lognormal, histogram or trace");
  if (name.text == "histogram") return read_histogram(cursor);
  const auto* const kind = std::ranges::find(kKinds, name.text, &Kind::name);
  if (kind == kKinds.end()) {
    const std::string_view nearest = nearest_name(name.text, {"fixed", "uniform", "lognormal", "histogram", "trace"});
    cursor.fail(name, "fixed, uniform, lognormal, histogram or trace",
                nearest.empty() ? "" : fmt::format("did you mean '{}'?", nearest));
  }
  Arguments arguments(cursor, kind->usage);
  LengthDistribution lengths = kind->read(arguments);
  arguments.finish();
  return lengths;
}

}  // namespace harrier
