// Passes as data: a list of named steps over one state struct, timed, dumpable, each verified after it ran.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace harrier {

template <typename State>
struct Pass {
  const char* name;     // a verb phrase: "simplify", "classify_tiles"
  const char* summary;  // one line for --help and the docs
  void (*run)(State&);
  void (*verify)(const State&);        // throws InternalError when the pass broke an invariant
  std::string (*print)(const State&);  // what --dump-after shows
};

struct PassTime {
  std::string name;
  double microseconds;
};

/// What to watch while passes run. `dump_after` names one pass ("" = none, "all" = every one); `dump` receives (pass
/// name, text).
struct PassObserver {
  std::string dump_after;
  std::function<void(const std::string&, const std::string&)> dump;
  std::vector<PassTime>* times = nullptr;
};

template <typename State>
void run_passes(const std::vector<Pass<State>>& passes, State& state, const PassObserver& observer) {
  for (const Pass<State>& pass : passes) {
    const auto start = std::chrono::steady_clock::now();
    pass.run(state);
    const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
    if (observer.times != nullptr) observer.times->push_back({pass.name, spent.count()});
    pass.verify(state);
    if (observer.dump && (observer.dump_after == pass.name || observer.dump_after == "all")) {
      observer.dump(pass.name, pass.print(state));
    }
  }
}

}  // namespace harrier
