# Run by the build as `cmake -DOBJECTS=... -DNM=... -P`: see pymodel_check_isolation().
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND "${NM}" --demangle --defined-only "${object}" OUTPUT_VARIABLE symbols
                  RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "nm failed on ${object}")
  endif()
  string(REGEX MATCHALL "[0-9a-f]+ [VWu] [^\n]+" weak "${symbols}")
  # Compiler-made references to data (DW.ref.*) carry no code.
  list(FILTER weak EXCLUDE REGEX "pymodel::cpu::(generic|avx2|avx512|avx512_bf16)::| DW\\.ref\\.")
  if(weak)
    list(JOIN weak "\n  " listing)
    message(FATAL_ERROR "${object}: shared inline code in a file compiled per instruction set:\n  "
                        "${listing}\nMake it static, or move it into namespace pymodel::cpu::PYMODEL_ISA.")
  endif()
endforeach()
