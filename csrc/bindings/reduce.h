// Reductions that other bindings are made of.
#pragma once

#include "bindings/bindings.h"

namespace pymodel {

// (rows, columns) summed over the rows: (columns), of the same dtype.
Array sum_of_rows(const Array& rows);

}  // namespace pymodel
