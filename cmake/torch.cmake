# LibTorch as one SYSTEM target, gatewright_torch, from Debian's package or from a 2.x tree.
# A tree whose CMake files want a CUDA toolkit (the x86-64 wheel) is linked by path: -DGATEWRIGHT_TORCH_ROOT=DIR.
set(GATEWRIGHT_TORCH_ROOT "" CACHE PATH "LibTorch 2.x tree (site-packages/torch) to link by path")
add_library(gatewright_torch INTERFACE)
if(GATEWRIGHT_TORCH_ROOT)
  # All of the tree's headers but its copy of fmt, which is of another version than the library that we link.
  file(GLOB torch_headers RELATIVE ${GATEWRIGHT_TORCH_ROOT}/include ${GATEWRIGHT_TORCH_ROOT}/include/*)
  list(REMOVE_ITEM torch_headers fmt)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/torch-headers)
  foreach(entry ${torch_headers})
    file(CREATE_LINK ${GATEWRIGHT_TORCH_ROOT}/include/${entry} ${CMAKE_BINARY_DIR}/torch-headers/${entry} SYMBOLIC)
  endforeach()
  target_include_directories(gatewright_torch SYSTEM INTERFACE
    $<BUILD_INTERFACE:${CMAKE_BINARY_DIR}/torch-headers> $<INSTALL_INTERFACE:${GATEWRIGHT_TORCH_ROOT}/include>
    ${GATEWRIGHT_TORCH_ROOT}/include/torch/csrc/api/include)
  file(GLOB torch_cuda_lib_dirs ${GATEWRIGHT_TORCH_ROOT}/../nvidia/*/lib)
  set(torch_libraries ${GATEWRIGHT_TORCH_ROOT}/lib/libtorch_cpu.so ${GATEWRIGHT_TORCH_ROOT}/lib/libc10.so)
  if(GATEWRIGHT_CUDA)
    list(APPEND torch_libraries ${GATEWRIGHT_TORCH_ROOT}/lib/libtorch_cuda.so ${GATEWRIGHT_TORCH_ROOT}/lib/libc10_cuda.so)
  endif()
  target_link_libraries(gatewright_torch INTERFACE -Wl,--no-as-needed ${torch_libraries} -Wl,--as-needed)
  target_link_options(gatewright_torch INTERFACE -Wl,-rpath,${GATEWRIGHT_TORCH_ROOT}/lib -Wl,--allow-shlib-undefined)
  foreach(dir ${torch_cuda_lib_dirs})
    target_link_options(gatewright_torch INTERFACE -Wl,-rpath,${dir})
  endforeach()
else()
  find_package(Torch REQUIRED)
  target_include_directories(gatewright_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
  target_link_libraries(gatewright_torch INTERFACE ${TORCH_LIBRARIES})
  separate_arguments(torch_flags UNIX_COMMAND "${TORCH_CXX_FLAGS}")
  target_compile_options(gatewright_torch INTERFACE ${torch_flags})
endif()

# One pool of threads: OpenBLAS's OpenMP flavour, where it is installed, also for the libblas.so.3 that LibTorch
# asks for. With the pthread flavour two pools fight over the cores, and products inside loops are many times
# slower. (The old kind of rpath, because only that one holds for the libraries of libraries.)
find_path(OPENBLAS_OPENMP_DIR libblas.so.3
  PATHS /usr/lib/${CMAKE_CXX_LIBRARY_ARCHITECTURE}/openblas-openmp /usr/lib64/openblas-openmp NO_DEFAULT_PATH)
if(OPENBLAS_OPENMP_DIR)
  target_link_options(gatewright_torch INTERFACE -Wl,--disable-new-dtags -Wl,-rpath,${OPENBLAS_OPENMP_DIR})
endif()
