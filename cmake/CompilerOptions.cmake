# Flags shared by every C++ file of the project, as the interface target `pymodel_options`.

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
option(PYMODEL_WERROR "Treat compiler warnings as errors" ON)
option(PYMODEL_SANITIZE "Build kernels with AddressSanitizer and UndefinedBehaviorSanitizer" OFF)

find_package(OpenMP REQUIRED COMPONENTS CXX)

add_library(pymodel_options INTERFACE)
target_compile_features(pymodel_options INTERFACE cxx_std_17)
target_include_directories(pymodel_options INTERFACE "${CMAKE_CURRENT_SOURCE_DIR}/csrc")
target_link_libraries(pymodel_options INTERFACE OpenMP::OpenMP_CXX)
set(cxx_options
    -Wall
    -Wextra
    -Wno-unknown-pragmas
    $<$<BOOL:${PYMODEL_WERROR}>:-Werror>
    # Speed without giving up IEEE semantics: no errno from libm, no trapping, but never
    # -ffast-math, which lets the compiler assume that NaN and infinity do not occur.
    -fno-math-errno
    -fno-trapping-math)
target_compile_options(pymodel_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${cxx_options}>")

# What kernels link to besides. Bindings go without: they would take minutes longer to compile.
add_library(pymodel_sanitizers INTERFACE)
if(PYMODEL_SANITIZE)
  set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=undefined -g1)
  target_compile_options(pymodel_sanitizers INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${sanitizers}>")
  target_link_options(pymodel_sanitizers INTERFACE -fsanitize=address,undefined)
endif()

set(pymodel_build_options "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}, ${CMAKE_BUILD_TYPE}")
