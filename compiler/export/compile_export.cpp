#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "compiler/cuda/cuda_code.h"
#include "compiler/export/exported_kernels.h"
#include "ir/error.h"

namespace harrier {
namespace {

/// Images that are there already, by their bytes.
class ImageTable {
 public:
  explicit ImageTable(std::vector<cuda::CudaBinary>& images) : images_(images) {}

  size_t place_of(cuda::CudaBinary binary) {
    const auto [found, is_new] =
        places_.try_emplace(std::string(binary.image.begin(), binary.image.end()), images_.size());
    if (is_new) images_.push_back(std::move(binary));
    return found->second;
  }

 private:
  std::vector<cuda::CudaBinary>& images_;
  std::map<std::string, size_t> places_;
};

bool is_text(const std::string& architecture) { return architecture.starts_with("compute_"); }

/// Exact machine code before that of a family before text, newer before older.
bool comes_before(const std::string& left, const std::string& right) {
  const auto rank = [](const std::string& name) {
    const int version = std::atoi(name.c_str() + name.find('_') + 1);
    return std::tuple(is_text(name), !name.ends_with('a'), -version, name);
  };
  return rank(left) < rank(right);
}

std::vector<std::string> sorted_architectures(std::vector<std::string> names) {
  if (names.empty()) throw InvalidInput("0 architectures are named, needed is 1: --arch sm_80,sm_90a,compute_80, say");
  for (const std::string& name : names) {
    if (name != "sm_90" || std::ranges::find(names, "sm_90a") == names.end()) continue;
    throw InvalidInput("sm_90 and sm_90a are both named, and GPUs of 9.0 would take sm_90a alone: leave one out");
  }
  for (const std::string& name : names) family_of(name);
  std::ranges::sort(names, comes_before);
  const auto repeated = std::ranges::unique(names);
  names.erase(repeated.begin(), repeated.end());
  return names;
}

/// The candidates of one architecture that are exported, and the tree among them.
struct Selection {
  std::vector<ExportCandidate> candidates;
  std::vector<LengthTreeNode> tree;
};

Selection select(const ExportWorkload& workload, const std::string& architecture, double most_slowdown) {
  std::vector<ExportCandidate> known;
  std::vector<std::vector<double>> times;
  for (const ExportCandidate& candidate : workload.candidates) {
    if (candidate.architecture != architecture) continue;
    if (candidate.microseconds.size() != workload.buckets.size()) {
      throw InvalidInput(fmt::format("a candidate of {} has {} times, there are {} buckets: measure one in each",
                                     workload.workload.name, candidate.microseconds.size(), workload.buckets.size()));
    }
    known.push_back(candidate);
    times.push_back(candidate.microseconds);
  }
  if (known.empty()) return {.candidates = {}, .tree = length_tree({}, {})};
  if (workload.buckets.empty()) return {.candidates = {known.front()}, .tree = length_tree({}, {})};
  const KernelChoice choice = choose_kernels(times, most_slowdown);
  Selection selection{.candidates = {}, .tree = length_tree(workload.buckets, choice.of_bucket)};
  for (const size_t kept : choice.kept) selection.candidates.push_back(known[kept]);
  return selection;
}

class Exporter {
 public:
  Exporter(const cuda::Nvrtc& nvrtc, const ExportOptions& options)
      : nvrtc_(nvrtc), options_(options), images_(result_.images) {}

  void add(const ExportWorkload& workload, const std::vector<std::string>& architectures) {
    std::optional<ExportedWorkload> exported;
    std::vector<ExportedTarget> targets;
    for (const std::string& architecture : architectures) {
      const Selection selection = select(workload, architecture, options_.most_slowdown);
      ExportedTarget target{.architecture = architecture, .kernels = {}, .tree = selection.tree};
      for (const ExportCandidate& candidate : selection.candidates) {
        target.kernels.push_back(compile(workload.workload, architecture, candidate.plan, candidate.schedule));
      }
      if (target.kernels.empty()) target.kernels.push_back(compile(workload.workload, architecture, {}, {}));
      if (!exported) exported = described(target.kernels.front().compilation);
      targets.push_back(std::move(target));
    }
    exported->targets = std::move(targets);
    result_.workloads.push_back(std::move(*exported));
  }

  KernelExport take() { return std::move(result_); }

 private:
  bool is_c() const { return options_.format == ExportFormat::kC; }

  ExportedWorkload described(const CudaCompilation& compilation) const {
    if (is_c()) return describe_workload(compilation);
    return {.workload = compilation.workload, .shape = compilation.workload.shape};
  }

  ExportedKernel compile(const Workload& workload, const std::string& architecture, const std::optional<CudaPlan>& plan,
                         const std::optional<CudaSchedule>& schedule) {
    if (schedule) verify(*schedule);
    ExportedKernel kernel;
    kernel.schedule = schedule;
    // Nobody looks at ids of documents when they are bound, so they may fall.
    const auto prepare = [&](const std::optional<CudaPlan>& wanted) {
      kernel.compilation = prepare_cuda(workload, {.architecture = architecture}, wanted, {}, false);
      described(kernel.compilation);  // refuses before anything is compiled
      return compile_source(nvrtc_, kernel.compilation, true, options_.stop);
    };
    CudaBinaries binaries = prepare(plan);
    // The pattern may need more registers than the default plan leaves: then a roomier one.
    for (std::string complaint = complaint_of(binaries.kernel); !complaint.empty();) {
      const std::optional<CudaPlan> roomier = plan ? std::nullopt : roomier_plan_of(kernel.compilation);
      kernel.notes.push_back(fmt::format("{} under the plan \"{}\"{}", complaint,
                                         print(kernel.compilation.plan, workload.shape.direction),
                                         roomier ? ": a roomier one was taken" : ""));
      if (!roomier) break;
      binaries = prepare(roomier);
      complaint = complaint_of(binaries.kernel);
    }
    kernel.kernel_image = images_.place_of(std::move(binaries.kernel));
    kernel.builder_image = images_.place_of(std::move(binaries.builder));
    if (options_.format == ExportFormat::kPack) add_sorted(workload, kernel);
    return kernel;
  }

  /// The library looks at ids when it binds them, and takes intervals where they do not fall.
  void add_sorted(const Workload& workload, ExportedKernel& kernel) {
    const CudaCompilation& unsorted = kernel.compilation;
    ExportedSorted sorted{.compilation = prepare_cuda(workload, unsorted.target, unsorted.plan)};
    if (sorted.compilation.source == unsorted.source && sorted.compilation.builder_source == unsorted.builder_source) {
      return;
    }
    CudaBinaries binaries = compile_source(nvrtc_, sorted.compilation, true, options_.stop);
    sorted.kernel_image = images_.place_of(std::move(binaries.kernel));
    sorted.builder_image = images_.place_of(std::move(binaries.builder));
    kernel.sorted = std::move(sorted);
  }

  const cuda::Nvrtc& nvrtc_;
  const ExportOptions& options_;
  KernelExport result_;
  ImageTable images_;
};

}  // namespace

KernelExport compile_export(const std::vector<ExportWorkload>& workloads, const cuda::Nvrtc& nvrtc,
                            const ExportOptions& options) {
  if (workloads.empty()) throw InvalidInput("0 workloads are to be exported, needed is 1: name an .attn file");
  std::set<std::string> names;
  for (const ExportWorkload& workload : workloads) {
    if (workload.workload.name.empty()) {
      throw InvalidInput("a workload to export has no name, and callers choose by name: write one behind `attention`");
    }
    if (names.insert(workload.workload.name).second) continue;
    throw InvalidInput(
        fmt::format("two workloads are called {}: rename one, for callers choose by name", workload.workload.name));
  }
  const std::vector<std::string> architectures = sorted_architectures(options.architectures);
  Exporter exporter(nvrtc, options);
  for (const ExportWorkload& workload : workloads) exporter.add(workload, architectures);
  return exporter.take();
}

}  // namespace harrier
