// The arguments of `harrier cache`.
#include <CLI/CLI.hpp>

#include "cli/cache_commands.h"

namespace harrier {
namespace {

constexpr const char* kCacheHelp =
    R"(Compiled kernels and tunings are kept in harrier.db in $HARRIER_CACHE_DIR, else $XDG_CACHE_HOME/harrier, else
~/.cache/harrier. Deleting it is safe: kernels are compiled again, tunings are lost.

Examples:
  harrier cache ls
  harrier cache export tunings.db               on one machine
  harrier cache import tunings.db               on another
  harrier cache merge a.db b.db -o both.db      without touching the cache
  harrier cache gc --size 500)";

}  // namespace

CLI::App* add_cache(CLI::App& app, CacheOptions& options) {
  CLI::App* cache = app.add_subcommand("cache", "Look into the cache of kernels and tunings, check it, share it");
  cache->require_subcommand(1);
  cache->footer(kCacheHelp);
  const auto add = [&](const char* name, const char* what) {
    CLI::App* action = cache->add_subcommand(name, what);
    action->add_flag("--json", options.json, "Print one JSON object on stdout, and nothing else there");
    action->callback([&options, name] { options.action = name; });
    return action;
  };
  const auto add_output = [&](CLI::App* action, const char* name, const char* what) {
    action->add_option(name, options.output, what)->type_name("FILE.db")->required();
  };
  add("ls", "List artifacts and decisions");
  add("show", "One artifact: registers, spills, where it came from")
      ->add_option("key", options.key, "How its key begins, as `cache ls` prints it")
      ->type_name("KEY")
      ->required();
  add("verify", "Check the file, and the hash of everything in it");
  add("gc", "Delete what was used longest ago, past the limit; what decisions name stays")
      ->add_option("--size", options.size_mib, "Machine code to keep (default 2048)")
      ->type_name("MIB");
  CLI::App* merge = add("merge", "Bring files together into one, without touching the cache");
  merge->add_option("files", options.files, "Files that `cache export` wrote")->type_name("FILE.db")->required();
  add_output(merge, "-o,--output", "File to write");
  add_output(add("export", "Write everything that another machine can use into a file"), "file", "File to write");
  add("import", "Add what files know to the cache")
      ->add_option("files", options.files, "Files that `cache export` wrote")
      ->type_name("FILE.db")
      ->required();
  return cache;
}

}  // namespace harrier
