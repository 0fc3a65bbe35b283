#include "runtime/cpu/cpu_jit.h"

#include <llvm/ExecutionEngine/Orc/JITTargetMachineBuilder.h>
#include <llvm/ExecutionEngine/Orc/LLJIT.h>
#include <llvm/IR/PassManager.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/TargetParser/SubtargetFeature.h>
#include <llvm/Transforms/InstCombine/InstCombine.h>
#include <llvm/Transforms/Scalar/EarlyCSE.h>
#include <llvm/Transforms/Scalar/LICM.h>
#include <llvm/Transforms/Scalar/LoopPassManager.h>
#include <llvm/Transforms/Scalar/SimplifyCFG.h>

#include <mutex>

#include "ir/error.h"

namespace harrier {
namespace {

void initialise_llvm_once() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
  });
}

template <typename T>
T value_of(llvm::Expected<T> expected, const char* step) {
  if (expected) return std::move(*expected);
  const std::string words = llvm::toString(expected.takeError());
  throw ToolchainError(std::string("LLVM could not ") + step + ": " + words.substr(0, words.find('\n')), words);
}

/// The emitter writes blocked vector code already: what is left is to drop repeated address arithmetic and lift it out
/// of loops. The full -O3 pipeline takes several times as long and changes no inner loop.
void optimise(llvm::Module& module, llvm::TargetMachine& machine) {
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager call_graph;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder builder(&machine);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(call_graph);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, call_graph, modules);

  llvm::FunctionPassManager passes;
  passes.addPass(llvm::EarlyCSEPass(/*UseMemorySSA=*/true));
  passes.addPass(llvm::InstCombinePass());
  passes.addPass(llvm::SimplifyCFGPass());
  passes.addPass(llvm::createFunctionToLoopPassAdaptor(llvm::LICMPass(llvm::LICMOptions()), /*UseMemorySSA=*/true));
  passes.addPass(llvm::EarlyCSEPass(/*UseMemorySSA=*/true));
  llvm::ModulePassManager pipeline;
  pipeline.addPass(llvm::createModuleToFunctionPassAdaptor(std::move(passes)));
  pipeline.run(module, modules);
}

}  // namespace

void* CpuModule::address_of(const std::string& name) const {
  return value_of(jit_->lookup(name), "compile the kernel").toPtr<void*>();
}

CpuModule jit_compile(llvm::orc::ThreadSafeModule module, const CpuTarget& target) {
  initialise_llvm_once();
  llvm::orc::JITTargetMachineBuilder machine_builder{llvm::Triple(target.triple)};
  machine_builder.setCPU(target.cpu);
  machine_builder.getFeatures() = llvm::SubtargetFeatures(target.features);
  machine_builder.setCodeGenOptLevel(llvm::CodeGenOptLevel::Default);

  std::shared_ptr<llvm::orc::LLJIT> jit =
      value_of(llvm::orc::LLJITBuilder().setJITTargetMachineBuilder(machine_builder).create(), "start its JIT");
  const std::unique_ptr<llvm::TargetMachine> machine =
      value_of(machine_builder.createTargetMachine(), "describe the host");
  module.withModuleDo([&](llvm::Module& inner) {
    inner.setDataLayout(jit->getDataLayout());
    optimise(inner, *machine);
  });
  if (llvm::Error error = jit->addIRModule(std::move(module))) {
    throw ToolchainError("LLVM could not add the kernel's module: " + llvm::toString(std::move(error)));
  }
  return CpuModule(std::move(jit));
}

}  // namespace harrier
