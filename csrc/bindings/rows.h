// (..., columns) seen as (rows, columns), which is how kernels of rows take their operands.
#pragma once

#include "bindings/elementwise.h"

namespace pymodel {

// A view where there is one, otherwise a contiguous copy. At least one dimension.
Array rows_of(const Array& array);

// `rows` with the leading dimensions of `like`.
Array shaped_like(const Array& rows, const Array& like);

}  // namespace pymodel
