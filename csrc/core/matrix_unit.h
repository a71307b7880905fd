// The instruction set "amx_bf16": the kernels of avx512_bf16 (core/isa.h), some of which give their
// bfloat16 products to the processor's matrix unit (cpu/tile_unit.h).
#pragma once

namespace pymodel {

// Whether it is there, the system lets us use it, and PYMODEL_CPU_ISA does not name a lesser set.
bool matrix_unit_on();

// The names of active_isa() and detected_isa(), "amx_bf16" included.
const char* active_isa_name();
const char* detected_isa_name();

}  // namespace pymodel
