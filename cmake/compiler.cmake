# Warnings, sanitizers and the compiler cache, the same for every target of ours.
add_library(gatewright_options INTERFACE)
target_compile_options(gatewright_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic>)
if(GATEWRIGHT_WERROR)
  target_compile_options(gatewright_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(GATEWRIGHT_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1)
  add_link_options(-fsanitize=address,undefined)
endif()
if(GATEWRIGHT_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -O1)
  add_link_options(-fsanitize=address,undefined)
endif()

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # A precompiled header is cached only when its defines and time stamps are not part of the key.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} ${CCACHE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
  endif()
endif()

# gatewright_compile_together(TARGET N): up to N files of a room are compiled as one, which saves reading the same headers
# again. A room is a folder beside the target's CMakeLists.txt with all below it; names that are private to a file must be
# unique in its room.
function(gatewright_compile_together target most)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${GATEWRIGHT_UNITY} UNITY_BUILD_MODE GROUP)
  get_target_property(files ${target} SOURCES)
  foreach(file ${files})
    get_filename_component(path ${file} ABSOLUTE)
    file(RELATIVE_PATH path ${CMAKE_CURRENT_SOURCE_DIR} ${path})
    string(REGEX MATCH "^[^/]+/" room "${path}")
    string(MAKE_C_IDENTIFIER "room_${room}" room)
    math(EXPR ${room} "0${${room}} + 1")
    math(EXPR group "(${${room}} - 1) / ${most}")
    set_source_files_properties(${file} PROPERTIES UNITY_GROUP ${room}_${group})
  endforeach()
endfunction()

# gatewright_compile_lightly(TARGET...): for code that is not worth long compiling: less optimised in a release build.
function(gatewright_compile_lightly)
  foreach(target ${ARGN})
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
  endforeach()
endfunction()
