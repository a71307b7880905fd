# Every CPU kernel file is compiled once per instruction set, into a namespace of its own
# (csrc/cpu/isa.h); csrc/core/isa.cpp picks one of them when the module is imported.

include(CheckCXXCompilerFlag)

option(PYMODEL_GENERIC_ONLY "Build the CPU kernels for the generic instruction set alone" OFF)

set(pymodel_isas generic)
set(pymodel_flags_generic "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT PYMODEL_GENERIC_ONLY)
  set(pymodel_flags_avx2 -mavx2 -mfma -mf16c)
  set(pymodel_flags_avx512 ${pymodel_flags_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl
                           -mprefer-vector-width=512)
  set(pymodel_flags_avx512_bf16 ${pymodel_flags_avx512} -mavx512bf16)
  list(APPEND pymodel_isas avx2 avx512 avx512_bf16)
  target_compile_definitions(pymodel_options INTERFACE PYMODEL_X86=1)
endif()

# Compiles the given kernel files for each instruction set; `out` receives the objects.
function(pymodel_add_cpu_kernels out)
  set(objects "")
  foreach(isa IN LISTS pymodel_isas)
    set(target kernels_${isa})
    add_library(${target} OBJECT ${ARGN})
    target_link_libraries(${target} PRIVATE pymodel_options pymodel_sanitizers)
    target_compile_definitions(${target} PRIVATE PYMODEL_ISA=${isa} PYMODEL_ISA_${isa}=1)
    # GCC 12's own AVX-512 headers trip -Wmaybe-uninitialized (GCC bug 105593).
    target_compile_options(${target} PRIVATE ${pymodel_flags_${isa}} -Wno-maybe-uninitialized)
    list(APPEND objects $<TARGET_OBJECTS:${target}>)
  endforeach()
  set(${out} ${objects} PARENT_SCOPE)
endfunction()

# Fails the build when a kernel object holds a weak symbol outside its instruction set's
# namespace: the linker would keep one copy of it for all, and an AVX-512 copy of a shared
# inline function would end on an older CPU with an illegal instruction.
function(pymodel_check_isolation target)
  add_custom_command(
    TARGET ${target}
    PRE_LINK
    COMMAND ${CMAKE_COMMAND} "-DOBJECTS=${ARGN}" "-DNM=${CMAKE_NM}" -P
            "${CMAKE_CURRENT_SOURCE_DIR}/cmake/CheckIsolation.cmake"
    VERBATIM)
endfunction()
