# One folder = one static library = one layer. A layer's headers are reachable as "<layer>/..." only from targets that link it, so an
# include across layers that the design does not allow fails to build.

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
endfunction()
