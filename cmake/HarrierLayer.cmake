# One folder = one static library = one layer. A layer's headers are reachable as "<layer>/..." only from targets that link it, so an
# include across layers that the design does not allow fails to build.

# Reading these is a good part of a compile. They are of the system only, so that a precompiled header carries nothing across layers; files
# include what they use as if they were not there, which CMAKE_DISABLE_PRECOMPILE_HEADERS=ON holds them to.
set(harrier_common_headers <algorithm> <array> <bit> <chrono> <cmath> <cstdint> <cstring> <filesystem> <fstream> <functional> <limits> <map>
    <memory> <numeric> <optional> <random> <set> <span> <sstream> <string> <string_view> <utility> <variant> <vector> <fmt/format.h>
    <fmt/ostream.h> <fmt/ranges.h>)
add_library(harrier_library_headers OBJECT EXCLUDE_FROM_ALL ${CMAKE_SOURCE_DIR}/cmake/precompiled.cpp)
target_link_libraries(harrier_library_headers PRIVATE harrier_warnings fmt::fmt)
target_precompile_headers(harrier_library_headers PRIVATE ${harrier_common_headers})

# harrier_precompiled(TARGET HEADERS): compile TARGET, which links fmt, with the precompiled headers of the target HEADERS. Under sanitizers
# instrumenting takes so long that it would save next to nothing.
function(harrier_precompiled TARGET HEADERS)
  if(HARRIER_SANITIZE)
    return()
  endif()
  target_precompile_headers(${TARGET} REUSE_FROM ${HEADERS})
  # Where options differ too much the headers are read as ever, which is slow and no mistake. In a precompiled std::string GCC 12 sees
  # overflows that it knows not to report in a system header.
  target_compile_options(${TARGET} PRIVATE
    "$<$<CXX_COMPILER_ID:GNU>:-Wno-error=invalid-pch;-Wno-stringop-overflow;-Wno-stringop-overread;-Wno-array-bounds>")
endfunction()

# harrier_layer(NAME SOURCES ... [PUBLIC targets...] [PRIVATE targets...])
function(harrier_layer NAME)
  cmake_parse_arguments(LAYER "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  set(target harrier_${NAME})
  set(root ${CMAKE_BINARY_DIR}/layers/${NAME})
  file(MAKE_DIRECTORY ${root})
  file(CREATE_LINK ${CMAKE_SOURCE_DIR}/${NAME} ${root}/${NAME} SYMBOLIC)
  add_library(${target} STATIC ${LAYER_SOURCES})
  target_include_directories(${target} PUBLIC ${root})
  target_link_libraries(${target} PUBLIC ${LAYER_PUBLIC} PRIVATE harrier_warnings ${LAYER_PRIVATE})
  harrier_precompiled(${target} harrier_library_headers)
endfunction()
