// Fibres: several stacks on one OS thread, and the switch between them.
//
// A CUDA thread that has to wait hands the processor to another thread of its block by switching
// stacks: some twenty instructions, against microseconds for an OS thread.
#pragma once

#include <cstddef>

namespace pymodel::simt::emulator {

// A suspended point of execution: the stack it lies on, and where on it its registers are saved.
struct Context {
  void* stack_pointer = nullptr;
  void* stack_bottom = nullptr;  // lowest address; AddressSanitizer is told where a stack lies
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's own note
};

// Makes `context` start `entry` at its next resumption, on the given stack. `entry` never returns
// and its first act is arrived().
void prepare(Context& context, void* stack_bottom, size_t stack_bytes, void (*entry)());

// Saves the running fibre in `from` and continues `to`; returns when someone switches to `from`.
void switch_context(Context& from, Context& to);
// Continues `to` from a fibre that nothing will ever switch back to.
void leave_context(Context& to);
// For the first instruction of a fibre.
void arrived();

// A pool of stacks with an unmapped page below each, so that an overflow faults instead of
// overwriting another fibre. Only the running grid uses it.
struct Stack {
  void* bottom = nullptr;
  size_t bytes = 0;
};
Stack take_stack();
void return_stack(Stack stack);

}  // namespace pymodel::simt::emulator
