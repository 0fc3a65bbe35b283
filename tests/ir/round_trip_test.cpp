// parse(print(x)) == x, for everything that verify() accepts.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "ir/error.h"
#include "ir/verify.h"
#include "random_workload.h"

namespace harrier {
namespace {

int small_depth() { return *rc::gen::inRange(1, 7); }

RC_GTEST_PROP(RoundTrip, OfAnyWorkload, (uint64_t seed)) {
  const Workload workload = WorkloadGenerator(seed).workload(small_depth());
  verify(workload);
  const std::string text = print(workload);
  RC_LOG(text);
  RC_ASSERT(parse_workload(text) == workload);
  RC_ASSERT(print(parse_workload(text)) == text);
}

RC_GTEST_PROP(RoundTrip, OfAnyMask, (uint64_t seed)) {
  const Mask mask = WorkloadGenerator(seed).mask(small_depth());
  verify(mask);
  RC_LOG(print(mask));
  RC_ASSERT(parse_mask(print(mask)) == mask);
}

RC_GTEST_PROP(RoundTrip, OfAnyExpression, (uint64_t seed, bool in_where)) {
  const ExpressionUse use = in_where ? ExpressionUse::kWhere : ExpressionUse::kScore;
  const Expression expression = WorkloadGenerator(seed).expression(small_depth(), use);
  RC_LOG(print(expression));
  RC_ASSERT(parse_expression(print(expression), use) == expression);
}

RC_GTEST_PROP(RoundTrip, OfTheCanonicalText, (uint64_t seed)) {
  const Workload workload = WorkloadGenerator(seed).workload(small_depth());
  const std::string canonical = canonical_text(workload.pattern, workload.shape);
  RC_ASSERT(canonical.find('\n') == std::string::npos);
  const Workload read = parse_workload("attention { " + canonical + " }");
  RC_ASSERT(read.pattern == workload.pattern);
  RC_ASSERT(read.shape == workload.shape);
}

RC_GTEST_PROP(RoundTrip, DifferentPatternsHaveDifferentCanonicalTexts, (uint64_t one, uint64_t other)) {
  const Workload first = WorkloadGenerator(one).workload(2);
  const Workload second = WorkloadGenerator(other).workload(2);
  const bool is_same = first.pattern == second.pattern && first.shape == second.shape;
  RC_ASSERT((canonical_text(first.pattern, first.shape) == canonical_text(second.pattern, second.shape)) == is_same);
}

/// Whatever the bytes, the parser returns or throws InvalidInput, and what it accepts survives the round trip.
void read_any(const std::string& text) {
  try {
    const Workload workload = parse_workload(text);
    verify(workload);
    RC_ASSERT(parse_workload(print(workload)) == workload);
  } catch (const InvalidInput&) {
    return;
  }
}

RC_GTEST_PROP(Parser, SurvivesAnyBytes, (const std::string& bytes)) {
  read_any(bytes);
  read_any("attention a { mask " + bytes + " }");
}

RC_GTEST_PROP(Parser, SurvivesDamagedText, (uint64_t seed)) {
  std::string text = print(WorkloadGenerator(seed).workload(3));
  std::mt19937_64 random(seed);
  for (uint64_t edits = 1 + random() % 4; edits > 0 && !text.empty(); --edits) {
    const std::size_t at = random() % text.size();
    switch (random() % 4) {
      case 0:
        text.erase(at, 1 + random() % 8);
        break;
      case 1:
        text.insert(at, 1, static_cast<char>(random() % 256));
        break;
      case 2:
        text[at] = text[random() % text.size()];
        break;
      default:
        text.insert(at, text.substr(random() % text.size(), random() % 30));
    }
  }
  RC_LOG(text);
  read_any(text);
}

}  // namespace
}  // namespace harrier
