#include "simt/fibre.h"

#include <cstdint>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define PYMODEL_SIMT_ASAN 1
#endif

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#define PYMODEL_SIMT_UCONTEXT 1
#endif

// pymodel_simt_switch(save, load): pushes the registers that the calling convention lets a
// function keep, stores the stack pointer in *save, takes `load` for the new one and pops. The
// final `ret` is predicted: all fibres of a block usually wait at the same call.
//
// The floating-point control words (mxcsr, x87, fpcr) are left alone although the convention names
// them: kernels do not change them, and saving them costs as much as all the rest.
#if defined(__x86_64__)
asm(R"(
.text
.globl pymodel_simt_switch
.hidden pymodel_simt_switch
.type pymodel_simt_switch, @function
pymodel_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size pymodel_simt_switch, .-pymodel_simt_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl pymodel_simt_switch
.hidden pymodel_simt_switch
.type pymodel_simt_switch, %function
pymodel_simt_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size pymodel_simt_switch, .-pymodel_simt_switch
)");
#endif

#if !PYMODEL_SIMT_UCONTEXT
extern "C" void pymodel_simt_switch(void** save, void* load);
#endif

namespace pymodel::simt::emulator {
namespace {

Context left;  // takes what a fibre that is never resumed would have saved
[[maybe_unused]] Context* leaving = nullptr;  // whom the fibre that is about to run takes over from

#if PYMODEL_SIMT_UCONTEXT

// Here stack_pointer holds the ucontext_t of a fibre, made at its first use and then kept.
ucontext_t* registers(Context& context) {
  if (context.stack_pointer == nullptr) context.stack_pointer = new ucontext_t;
  return static_cast<ucontext_t*>(context.stack_pointer);
}

void switch_registers(Context& from, Context& to) { swapcontext(registers(from), registers(to)); }

void prepare_registers(Context& context, void (*entry)()) {
  ucontext_t* target = registers(context);
  getcontext(target);
  target->uc_stack.ss_sp = context.stack_bottom;
  target->uc_stack.ss_size = context.stack_bytes;
  target->uc_link = nullptr;
  makecontext(target, entry, 0);
}

#else

void switch_registers(Context& from, Context& to) {
  pymodel_simt_switch(&from.stack_pointer, to.stack_pointer);
}

void prepare_registers(Context& context, void (*entry)()) {
#if defined(__x86_64__)
  // Six registers, the address to return to, and a null return address for whoever walks the
  // stack; at a function's entry the stack pointer is 8 past a multiple of 16.
  constexpr int words = 8, entry_word = 6;
#else
  constexpr int words = 20, entry_word = 11;  // x30 is the twelfth register saved
#endif
  const uintptr_t top =
      (reinterpret_cast<uintptr_t>(context.stack_bottom) + context.stack_bytes) & ~uintptr_t{15};
  uintptr_t* frame = reinterpret_cast<uintptr_t*>(top) - words;
  std::memset(frame, 0, words * sizeof(uintptr_t));
  frame[entry_word] = reinterpret_cast<uintptr_t>(entry);
  context.stack_pointer = frame;
}

#endif

}  // namespace

void prepare(Context& context, void* stack_bottom, size_t stack_bytes, void (*entry)()) {
  context.stack_bottom = stack_bottom;
  context.stack_bytes = stack_bytes;
  context.fake_stack = nullptr;
  prepare_registers(context, entry);
}

#if PYMODEL_SIMT_ASAN

void switch_context(Context& from, Context& to) {
  leaving = &from;
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack_bottom, to.stack_bytes);
  switch_registers(from, to);
  const void* bottom;
  size_t bytes;
  __sanitizer_finish_switch_fiber(from.fake_stack, &bottom, &bytes);
  // The OS thread's own stack becomes known to us when it is first left.
  leaving->stack_bottom = const_cast<void*>(bottom);
  leaving->stack_bytes = bytes;
}

void leave_context(Context& to) {
  leaving = &left;
  __sanitizer_start_switch_fiber(nullptr, to.stack_bottom, to.stack_bytes);
  switch_registers(left, to);
}

void arrived() {
  const void* bottom;
  size_t bytes;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  leaving->stack_bottom = const_cast<void*>(bottom);
  leaving->stack_bytes = bytes;
}

#else

void switch_context(Context& from, Context& to) { switch_registers(from, to); }
void leave_context(Context& to) { switch_registers(left, to); }
void arrived() {}

#endif

}  // namespace pymodel::simt::emulator
