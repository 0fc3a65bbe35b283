// An .attn file on disk and the arrays named beside it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/npy.h"
#include "ir/geometry.h"
#include "ir/workload.h"

namespace harrier {

/// Reads, parses (with the file's name before line and column), loads a trace, verifies.
Workload read_workload(const std::string& path);

/// Arrays by name, owned, with views of them.
struct NamedArrays {
  std::map<std::string, NpyArray> arrays;
  Bindings bindings() const;
};

/// Reads every `--bind`. A name given twice, or one that the pattern does not have, is refused.
NamedArrays read_bindings(const std::vector<BindOption>& options, const Pattern& pattern);

/// `all` without the arrays that simplifying made superfluous: a kernel knows only what is left.
Bindings needed_by(const Pattern& simplified, const Bindings& all);

/// Whole numbers of a one-dimensional integer file: lengths, cu_seqlens.
std::vector<int64_t> read_integers(const std::string& path);

}  // namespace harrier
