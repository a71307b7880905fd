// Fragments, element by element, against the layouts that the PTX ISA draws.
#include <cmath>
#include <cstring>

#include "harness.h"

namespace pymodel::simt::tests {
namespace {

// ---------------------------------------------------------------------------------------------
// ldmatrix and stmatrix

// registers (5, 4, 32): x4, x4.trans, x2 (two registers), x2.trans, and x4 again from what
// stmatrix has copied. Shared memory holds four 8 x 8 matrices of their own element numbers.
__global__ void fragments_kernel(uint32_t* registers) {
  auto* shared = ptx::dynamic_shared<uint16_t>();
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) shared[i] = static_cast<uint16_t>(i);
  __syncwarp();
  uint32_t four[4], two[2];
  auto put = [&](int row, int v, uint32_t value) { registers[(row * 4 + v) * 32 + lane] = value; };
  ptx::ldmatrix_x4(four, shared + 8 * lane);
  for (int v = 0; v < 4; ++v) put(0, v, four[v]);
  ptx::stmatrix_x4(shared + 256 + 8 * lane, four);
  ptx::ldmatrix_x4_trans(four, shared + 8 * lane);
  for (int v = 0; v < 4; ++v) put(1, v, four[v]);
  ptx::ldmatrix_x2(two, shared + 8 * (lane % 16));
  for (int v = 0; v < 2; ++v) put(2, v, two[v]);
  ptx::ldmatrix_x2_trans(two, shared + 8 * (lane % 16));
  for (int v = 0; v < 2; ++v) put(3, v, two[v]);
  __syncwarp();
  ptx::ldmatrix_x4(four, shared + 256 + 8 * lane);
  for (int v = 0; v < 4; ++v) put(4, v, four[v]);
}

uint32_t pair_of(int low, int high) { return static_cast<uint32_t>(low | high << 16); }

SIMT_CASE(fragments) {
  DeviceArray<uint32_t> registers(5 * 4 * 32);
  SIMT_TRY(launch(fragments_kernel, 1, 32, 1024, registers.data()));
  const std::vector<uint32_t> got = registers.host();
  for (int v = 0; v < 4; ++v) {
    for (int lane = 0; lane < 32; ++lane) {
      const int row = lane / 4, column = 2 * (lane % 4), first = 64 * v;
      const uint32_t plain = pair_of(first + 8 * row + column, first + 8 * row + column + 1);
      const uint32_t turned = pair_of(first + 8 * column + row, first + 8 * (column + 1) + row);
      auto at = [&](int which) { return got[(which * 4 + v) * 32 + lane]; };
      SIMT_EXPECT(at(0) == plain && at(1) == turned && at(4) == plain);
      if (v < 2) SIMT_EXPECT(at(2) == plain && at(3) == turned);
    }
  }
  return "ok";
}

// ---------------------------------------------------------------------------------------------
// mma.sync

// Every lane fills its registers from the matrices by the documented coordinates.
template <typename T>
__global__ void mma_kernel(const T* a, const T* b, const float* c, float* d) {
  const int lane = threadIdx.x, group = lane / 4, in_group = lane % 4;
  uint32_t fa[4] = {}, fb[2] = {};
  for (int i = 0; i < 8; ++i) {  // element a_i of the PTX ISA
    const int row = (i < 2 || (i >= 4 && i < 6)) ? group : group + 8;
    const int column = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
    fa[i / 2] |= uint32_t{a[row * 16 + column].bits} << 16 * (i % 2);
  }
  for (int i = 0; i < 4; ++i) {
    const int row = in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0);
    fb[i / 2] |= uint32_t{b[row * 8 + group].bits} << 16 * (i % 2);
  }
  float sums[4];
  auto place = [&](int i) { return (i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1); };
  for (int i = 0; i < 4; ++i) sums[i] = c[place(i)];
  ptx::mma_16x8x16<T>(sums, fa, fb);
  for (int i = 0; i < 4; ++i) d[place(i)] = sums[i];
}

__global__ void mma_tf32_kernel(const float* a, const float* b, const float* c, float* d) {
  const int lane = threadIdx.x, group = lane / 4, in_group = lane % 4;
  uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; ++i) {
    const int row = i == 0 || i == 2 ? group : group + 8, column = in_group + (i >= 2 ? 4 : 0);
    fa[i] = ptx::to_tf32(a[row * 8 + column]);
  }
  for (int i = 0; i < 2; ++i) fb[i] = ptx::to_tf32(b[(in_group + 4 * i) * 8 + group]);
  float sums[4];
  auto place = [&](int i) { return (i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1); };
  for (int i = 0; i < 4; ++i) sums[i] = c[place(i)];
  ptx::mma_16x8x8_tf32(sums, fa, fb);
  for (int i = 0; i < 4; ++i) d[place(i)] = sums[i];
}

// Small integers, which every format holds and whose sums are exact.
template <typename T>
Outcome run_mma(void (*kernel)(const T*, const T*, const float*, float*), int depth) {
  std::vector<T> a(16 * depth), b(depth * 8);
  std::vector<float> c(128);
  for (size_t i = 0; i < a.size(); ++i) a[i] = T(static_cast<float>(i * 37 % 29) - 14);
  for (size_t i = 0; i < b.size(); ++i) b[i] = T(static_cast<float>(i * 11 % 31) - 15);
  for (size_t i = 0; i < c.size(); ++i) c[i] = static_cast<float>(i);
  const DeviceArray<T> a_device(a), b_device(b);
  const DeviceArray<float> c_device(c);
  DeviceArray<float> d(128);
  SIMT_TRY(launch(kernel, 1, 32, 0, a_device.data(), b_device.data(), c_device.data(), d.data()));
  const std::vector<float> got = d.host();
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      float sum = c[i * 8 + j];
      for (int k = 0; k < depth; ++k) sum += float(a[i * depth + k]) * float(b[k * 8 + j]);
      SIMT_EXPECT(got[i * 8 + j] == sum);
    }
  }
  return "ok";
}

SIMT_CASE(mma_half) { return run_mma<__half>(mma_kernel<__half>, 16); }
SIMT_CASE(mma_bfloat16) { return run_mma<__nv_bfloat16>(mma_kernel<__nv_bfloat16>, 16); }
SIMT_CASE(mma_tf32) { return run_mma<float>(mma_tf32_kernel, 8); }

// Ties go away from zero; what is beyond ten bits of mantissa does not count.
SIMT_CASE(to_tf32) {
  SIMT_EXPECT(ptx::to_tf32(__uint_as_float(0x3f801000)) == 0x3f802000);
  SIMT_EXPECT(ptx::to_tf32(__uint_as_float(0xbf801000)) == 0xbf802000);
  SIMT_EXPECT(ptx::to_tf32(__uint_as_float(0x3f800fff)) == 0x3f800000);
  SIMT_EXPECT(ptx::to_tf32(__uint_as_float(0x7f7fffff)) == 0x7f800000);
  SIMT_EXPECT(std::isnan(__uint_as_float(ptx::to_tf32(NAN))));
  return "ok";
}

// ---------------------------------------------------------------------------------------------
// Wrong

__global__ void misaligned_rows_kernel(uint32_t* out) {
  uint32_t r[4];
  ptx::ldmatrix_x4(r, ptx::dynamic_shared<unsigned char>() + 16 * threadIdx.x + 8);
  out[threadIdx.x] = r[0];
}

__global__ void foreign_rows_kernel(uint32_t* out) {
  uint32_t r[4];
  ptx::ldmatrix_x4(r, out);
  out[threadIdx.x] = r[0];
}

__global__ void half_warp_kernel(uint32_t* out) {
  uint32_t r[2];
  if (threadIdx.x < 16) {
    ptx::ldmatrix_x2(r, ptx::dynamic_shared<unsigned char>() + 16 * threadIdx.x);
    out[threadIdx.x] = r[0];
  }
}

__global__ void misaligned_copy_kernel(uint32_t* from) {
  ptx::cp_async_16(ptx::dynamic_shared<unsigned char>(), from + 1, true);
}

Outcome run_wrong(void (*kernel)(uint32_t*)) {
  DeviceArray<uint32_t> out(256);
  SIMT_TRY(launch(kernel, 1, 32, 1024, out.data()));
  return "ok";
}

}  // namespace

SIMT_CASE(misaligned_rows) { return run_wrong(misaligned_rows_kernel); }
SIMT_CASE(rows_outside_shared) { return run_wrong(foreign_rows_kernel); }
SIMT_CASE(ldmatrix_by_half_a_warp) { return run_wrong(half_warp_kernel); }
SIMT_CASE(misaligned_copy) { return run_wrong(misaligned_copy_kernel); }

}  // namespace pymodel::simt::tests
