// Workloads: text in, their parts and text out. Python builds patterns as text, so that the language has one parser.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bindings.h"
#include "compiler/harrier.h"
#include "compiler/passes/simplify.h"

namespace nb = nanobind;

namespace harrier::python {
namespace {

Workload parse_verified(const std::string& text) {
  Workload workload = parse_workload(text);
  load_trace(workload.lengths, ".");
  verify(workload);
  return workload;
}

std::string print_verified_mask(const std::string& text) {
  const Mask mask = parse_mask(text);
  verify(mask);
  return print(mask);
}

std::string print_verified_expression(const std::string& text, bool is_score) {
  const Expression expression = parse_expression(text, is_score ? ExpressionUse::kScore : ExpressionUse::kWhere);
  Pattern pattern;
  if (is_score) {
    pattern.score.expression = expression;
  } else {
    pattern.mask = where(expression);
  }
  verify(pattern);
  return print(expression);
}

using NamedRole = std::tuple<std::string, std::string, int>;

std::vector<NamedRole> roles_of(const Pattern& pattern) {
  std::vector<NamedRole> roles;
  for (const ArrayUse& use : array_uses(pattern)) roles.emplace_back(use.name, name_of(use.role), use.rank);
  return roles;
}

std::vector<std::string> learned_arrays(const Pattern& pattern) {
  std::vector<std::string> names;
  for (const ArrayUse& use : array_uses(pattern)) {
    if (has_gradient(use.role)) names.push_back(use.name);
  }
  return names;
}

std::optional<double> padding_value(const Pattern& pattern) {
  const auto* additive = std::get_if<PaddingAdditive>(&pattern.padding);
  return additive == nullptr ? std::nullopt : std::optional(additive->value);
}

std::string softmax_name(const Pattern& pattern) {
  if (std::holds_alternative<SoftmaxPrunedAsZero>(pattern.softmax)) return "pruned_as_zero";
  return std::holds_alternative<SoftmaxSinkLogit>(pattern.softmax) ? "sink_logit" : "standard";
}

std::optional<std::string> nonempty(const std::string& name) {
  return name.empty() ? std::nullopt : std::optional(name);
}

}  // namespace

void bind_workload(nb::module_& module) {
  nb::class_<Workload>(module, "Workload", "A parsed and verified workload. Immutable.")
      .def(nb::new_([](const std::string& text) { return parse_verified(text); }), nb::arg("text"),
           "Reads `attention NAME { ... }`.")
      .def_ro("name", &Workload::name)
      .def_ro("batch", &Workload::batch)
      .def_prop_ro("heads", [](const Workload& self) { return self.shape.heads; })
      .def_prop_ro("kv_heads", [](const Workload& self) { return self.shape.kv_heads; })
      .def_prop_ro("head_dim", [](const Workload& self) { return self.shape.head_dim; })
      .def_prop_ro("value_dim", [](const Workload& self) { return self.shape.value_dim; })
      .def_prop_ro("dtype", [](const Workload& self) { return std::string(name_of(self.shape.dtype)); })
      .def_prop_ro("is_backward", [](const Workload& self) { return self.shape.direction == Direction::kBackward; })
      .def_prop_ro("is_deterministic", [](const Workload& self) { return self.shape.deterministic; })
      .def_prop_ro("mask", [](const Workload& self) { return print(self.pattern.mask); })
      .def_prop_ro("padding", [](const Workload& self) { return padding_value(self.pattern); })
      .def_prop_ro("scale", [](const Workload& self) { return self.pattern.score.scale; })
      .def_prop_ro("softcap", [](const Workload& self) { return self.pattern.score.softcap; })
      .def_prop_ro("alibi", [](const Workload& self) { return nonempty(self.pattern.score.alibi); })
      .def_prop_ro("bias", [](const Workload& self) { return nonempty(self.pattern.score.bias); })
      .def_prop_ro("score",
                   [](const Workload& self) -> std::optional<std::string> {
                     const std::optional<Expression>& expression = self.pattern.score.expression;
                     return expression ? std::optional(print(*expression)) : std::nullopt;
                   })
      .def_prop_ro("softmax", [](const Workload& self) { return softmax_name(self.pattern); })
      .def_prop_ro("sink_logit",
                   [](const Workload& self) -> std::optional<std::string> {
                     const auto* sink = std::get_if<SoftmaxSinkLogit>(&self.pattern.softmax);
                     return sink == nullptr ? std::nullopt : std::optional(sink->logits);
                   })
      .def_prop_ro("lengths", [](const Workload& self) { return print(self.lengths); })
      .def_prop_ro("pattern", [](const Workload& self) { return print(self.pattern); })
      .def_prop_ro("canonical", [](const Workload& self) { return canonical_text(simplify(self.pattern), self.shape); })
      .def_prop_ro(
          "arrays", [](const Workload& self) { return roles_of(self.pattern); },
          "(name, role, rank) of every array that must be bound; rank -1 follows from the role.")
      .def_prop_ro(
          "learned", [](const Workload& self) { return learned_arrays(self.pattern); },
          "Names of the arrays that have gradients.")
      .def("__str__", [](const Workload& self) { return print(self); });

  module.def("print_mask", print_verified_mask, nb::arg("text"), "Verifies a mask and returns its one spelling.");
  module.def("print_expression", print_verified_expression, nb::arg("text"), nb::arg("is_score"),
             "Verifies the body of score(...) or of where(...) and returns its one spelling.");
}

}  // namespace harrier::python
