# The CUDA kernels, built up to twice from the same sources:
#
#   PYMODEL_CUDA=AUTO|ON|OFF   by nvcc. AUTO: where nvcc and an NVIDIA driver are both present, so
#                              that nobody without a GPU waits for it
#   PYMODEL_SIMT=ON|OFF        by the C++ compiler against the emulator in csrc/simt, for tests
#
# Both are object libraries; pymodel_add_device_backends() links what is on into a target.

set(PYMODEL_CUDA AUTO CACHE STRING "Build the CUDA kernels: AUTO, ON or OFF")
set_property(CACHE PYMODEL_CUDA PROPERTY STRINGS AUTO ON OFF)
option(PYMODEL_SIMT "Build the CUDA kernels for the emulator, as the tests want" OFF)
option(PYMODEL_CUDA_REPORT "Print the registers and spills of every CUDA kernel" OFF)

if(PYMODEL_SIMT AND "${SKBUILD_STATE}" STREQUAL "wheel")
  message(FATAL_ERROR "The emulator is for tests and is never put into a wheel: "
                      "PYMODEL_SIMT=ON is for editable installations only")
endif()

# sm_80 and sm_90a machine code, and PTX that the driver compiles for later GPUs.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80 90a-real)
endif()

# Sets pymodel_cuda to ON or OFF, and CMAKE_CUDA_COMPILER where nvcc is not on the PATH.
function(pymodel_find_cuda)
  set(found OFF)
  if(PYMODEL_CUDA)
    # PyPI's nvidia-cuda-nvcc puts the toolkit beside the packages of the Python that builds us.
    set(packages "")
    if(Python_SITELIB)
      file(GLOB packages "${Python_SITELIB}/nvidia/cu1*/bin" "${Python_SITELIB}/nvidia/cuda_nvcc/bin")
    endif()
    find_program(PYMODEL_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda
                 PATH_SUFFIXES bin PATHS ${packages})
    set(found ON)
    if(PYMODEL_CUDA STREQUAL "AUTO" AND NOT (PYMODEL_NVCC AND EXISTS "/proc/driver/nvidia/version"))
      set(found OFF)
    elseif(NOT PYMODEL_NVCC)
      message(FATAL_ERROR "PYMODEL_CUDA=ON needs nvcc: install the CUDA toolkit (12.4 or later), "
                          "or `pip install nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-cccl` into the "
                          "Python that builds pymodel")
    endif()
  endif()
  if(found AND NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER "${PYMODEL_NVCC}" PARENT_SCOPE)
  endif()
  set(pymodel_cuda ${found} PARENT_SCOPE)
endfunction()

pymodel_find_cuda()
if(pymodel_cuda)
  enable_language(CUDA)
  if(PYMODEL_NVCC MATCHES "/site-packages/nvidia/")
    # PyPI's runtime has no libcudart.so, which find_package wants to see though we link statically.
    cmake_path(GET PYMODEL_NVCC PARENT_PATH programs)
    file(GLOB CUDA_CUDART "${programs}/../lib/libcudart.so.*")
  endif()
  find_package(CUDAToolkit REQUIRED)
endif()
message(STATUS "pymodel: CUDA kernels ${pymodel_cuda} (PYMODEL_CUDA=${PYMODEL_CUDA}), "
               "emulated kernels ${PYMODEL_SIMT}")

function(pymodel_add_cuda_kernels)
  add_library(cuda_kernels OBJECT ${ARGN})
  target_link_libraries(cuda_kernels PUBLIC pymodel_options CUDA::cudart_static)
  target_compile_definitions(cuda_kernels PRIVATE PYMODEL_BACKEND=cuda)
  target_compile_options(
    cuda_kernels
    PRIVATE --extended-lambda
            --expt-relaxed-constexpr
            -Xcompiler=-Wall,-Wextra,-Wno-unknown-pragmas
            $<$<BOOL:${PYMODEL_WERROR}>:-Werror=all-warnings>
            $<$<BOOL:${PYMODEL_CUDA_REPORT}>:-Xptxas=-v>)
endfunction()

# Each kernel file is compiled through a file that includes it, because one source cannot be CUDA
# and C++ in the same build. The emulator's headers come first: they shadow those of CUDA.
function(pymodel_add_simt_kernels)
  set(wrappers "")
  foreach(source IN LISTS ARGN)
    file(RELATIVE_PATH name "${CMAKE_CURRENT_SOURCE_DIR}/csrc" "${source}")
    string(REPLACE ".cu" ".cpp" wrapper "${CMAKE_CURRENT_BINARY_DIR}/simt/${name}")
    file(CONFIGURE OUTPUT "${wrapper}" CONTENT "#include \"${name}\"\n")
    list(APPEND wrappers "${wrapper}")
  endforeach()
  file(GLOB emulator CONFIGURE_DEPENDS csrc/simt/*.cpp)
  add_library(simt_kernels OBJECT ${wrappers} ${emulator})
  target_include_directories(simt_kernels BEFORE PRIVATE csrc/simt/include)
  target_link_libraries(simt_kernels PUBLIC pymodel_options PRIVATE pymodel_sanitizers)
  target_compile_definitions(simt_kernels PRIVATE PYMODEL_BACKEND=simt)
  # Kernels read shared memory as whatever they put there, which CUDA allows and C++ does not.
  # GCC 12 gives the emulator's static shared memory a section type that its assembler warns of.
  target_compile_options(simt_kernels PRIVATE -O2 -fno-strict-aliasing -Wa,--no-warn)
endfunction()

function(pymodel_add_device_backends target)
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/csrc/cuda/*.cu"
       "${CMAKE_CURRENT_SOURCE_DIR}/csrc/ops/*/*_cuda.cu")
  if(pymodel_cuda)
    pymodel_add_cuda_kernels(${sources})
    target_link_libraries(${target} PRIVATE cuda_kernels CUDA::cudart_static)
  endif()
  if(PYMODEL_SIMT)
    pymodel_add_simt_kernels(${sources})
    target_link_libraries(${target} PRIVATE simt_kernels)
    target_compile_definitions(${target} PRIVATE PYMODEL_WITH_SIMT=1)
  endif()
endfunction()
