# The emulator's own tests: small kernels of tests/simt in a program, `simt_tests`, and in another
# that AddressSanitizer and UndefinedBehaviorSanitizer watch. Both lie beside the module, where
# tests/simt/conftest.py looks for them.
function(pymodel_add_simt_tests)
  file(GLOB sources CONFIGURE_DEPENDS csrc/simt/*.cpp tests/simt/*.cpp)
  foreach(name simt_tests simt_tests_sanitized)
    add_executable(${name} ${sources})
    target_include_directories(${name} BEFORE PRIVATE csrc/simt/include)
    target_link_libraries(${name} PRIVATE pymodel_options)
    target_compile_definitions(${name} PRIVATE PYMODEL_BACKEND=simt)
    target_compile_options(${name} PRIVATE -O1 -g1 -fno-strict-aliasing -Wa,--no-warn)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_LIBRARY_OUTPUT_DIRECTORY}")
    install(TARGETS ${name} DESTINATION pymodel)
  endforeach()
  set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all)
  target_compile_options(simt_tests_sanitized PRIVATE ${sanitizers})
  target_link_options(simt_tests_sanitized PRIVATE ${sanitizers})
endfunction()

if(PYMODEL_SIMT AND NOT PYMODEL_SANITIZE)
  pymodel_add_simt_tests()
endif()
