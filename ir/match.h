// Exhaustive matching over std::variant: a missing alternative does not compile.
#pragma once

#include <utility>
#include <variant>

namespace harrier {

template <typename... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};

template <typename... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

/// `match(mask.node, [](const All&) {...}, [](const And& a) {...}, ...)`
template <typename Variant, typename... Cases>
decltype(auto) match(Variant&& variant, Cases&&... cases) {
  return std::visit(Overloaded{std::forward<Cases>(cases)...}, std::forward<Variant>(variant));
}

}  // namespace harrier
