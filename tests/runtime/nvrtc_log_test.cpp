// What ptxas says, read from logs that NVRTC 13.0 wrote.
#include <gmock/gmock.h>

#include "runtime/cuda/nvrtc.h"

namespace harrier::cuda {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

// Three kernels for sm_90a: one that keeps too much, one that touches accumulators of products under way, and one that
// stores a number.
constexpr const char* kThreeKernels =
    R"(ptxas info    : (C7517) warpgroup.wait is injected in around line 351 by compiler to allow use of registers defined by GMMA in function 'serialises'
ptxas info    : (C7517) warpgroup.wait is injected in around line 361 by compiler to allow use of registers defined by GMMA in function 'serialises'
ptxas info    : (C7517) warpgroup.wait is injected in around line 371 by compiler to allow use of registers defined by GMMA in function 'serialises'
ptxas info    : (C7517) warpgroup.wait is injected in around line 381 by compiler to allow use of registers defined by GMMA in function 'serialises'
ptxas info    : (C7511) Potential Performance Loss: wgmma.mma_async instructions are serialized due to insufficient register resources for the wgmma pipeline in the function 'serialises'
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'plain' for 'sm_90a'
ptxas info    : Function properties for plain
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 0 barriers
ptxas info    : Compile time = 18.130 ms
ptxas info    : Compiling entry function 'serialises' for 'sm_90a'
ptxas info    : Function properties for serialises
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 30 registers, used 0 barriers
ptxas info    : Compile time = 3.679 ms
ptxas info    : Compiling entry function 'spills' for 'sm_90a'
ptxas info    : Function properties for spills
ptxas         .     360 bytes stack frame, 400 bytes spill stores, 400 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 360 bytes cumulative stack size
ptxas info    : Compile time = 42.650 ms
)";

// A kernel that spills and calls a function that was not inlined.
constexpr const char* kWithAFunction = R"(ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'spills' for 'sm_90a'
ptxas info    : Function properties for spills
ptxas         .     288 bytes stack frame, 288 bytes spill stores, 568 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 288 bytes cumulative stack size
ptxas info    : Compile time = 50.903 ms
ptxas info    : Function properties for _Z6helperf
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
)";

auto entry(const char* name, int registers, int stack_bytes, int spill_bytes) {
  return AllOf(Field(&EntryUse::name, name), Field(&EntryUse::registers, registers),
               Field(&EntryUse::stack_bytes, stack_bytes), Field(&EntryUse::spill_bytes, spill_bytes));
}

TEST(NvrtcLog, EveryEntryHasItsRegistersStackAndSpills) {
  EXPECT_THAT(entries_of_log(kThreeKernels), ElementsAre(entry("plain", 10, 0, 0), entry("serialises", 30, 0, 0),
                                                         entry("spills", 64, 360, 400 + 400)));
}

TEST(NvrtcLog, FunctionsThatWereNotInlinedCountWithTheirEntry) {
  EXPECT_THAT(entries_of_log(kWithAFunction), ElementsAre(entry("spills", 32, 288, 288 + 568)));
}

TEST(NvrtcLog, NotesAreTheLinesOnSerialisedProducts) {
  const std::vector<std::string> notes = notes_of_log(kThreeKernels);
  ASSERT_EQ(notes.size(), 5U);
  EXPECT_THAT(notes[0], HasSubstr("(C7517) warpgroup.wait is injected"));
  EXPECT_THAT(notes[4], HasSubstr("(C7511) Potential Performance Loss"));
  EXPECT_THAT(notes_of_log(kWithAFunction), IsEmpty());
}

TEST(NvrtcLog, TextThatIsNoLogGivesNothing) {
  for (const char* text : {"", "\n\n", "kernel.cu(3): error: identifier \"x\" is undefined\n", "Used registers",
                           "Compiling entry function '"}) {
    EXPECT_THAT(notes_of_log(text), IsEmpty()) << text;
    for (const EntryUse& use : entries_of_log(text)) EXPECT_EQ(use.registers, 0) << text;
  }
}

}  // namespace
}  // namespace harrier::cuda
