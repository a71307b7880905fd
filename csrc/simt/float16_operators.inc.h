// Arithmetic, comparisons and the pair of one 16-bit type. Included inside namespace pymodel::simt
// with PYMODEL_SIMT_TYPE and PYMODEL_SIMT_PAIR set; no include guard, since both types need it.

inline PYMODEL_SIMT_TYPE operator+(PYMODEL_SIMT_TYPE a, PYMODEL_SIMT_TYPE b) {
  return static_cast<float>(a) + static_cast<float>(b);
}
inline PYMODEL_SIMT_TYPE operator-(PYMODEL_SIMT_TYPE a, PYMODEL_SIMT_TYPE b) {
  return static_cast<float>(a) - static_cast<float>(b);
}
inline PYMODEL_SIMT_TYPE operator*(PYMODEL_SIMT_TYPE a, PYMODEL_SIMT_TYPE b) {
  return static_cast<float>(a) * static_cast<float>(b);
}
inline PYMODEL_SIMT_TYPE operator/(PYMODEL_SIMT_TYPE a, PYMODEL_SIMT_TYPE b) {
  return static_cast<float>(a) / static_cast<float>(b);
}
inline PYMODEL_SIMT_TYPE operator-(PYMODEL_SIMT_TYPE a) {
  a.bits ^= 0x8000;
  return a;
}
inline bool operator==(PYMODEL_SIMT_TYPE a, PYMODEL_SIMT_TYPE b) {
  return static_cast<float>(a) == static_cast<float>(b);
}
inline bool operator!=(PYMODEL_SIMT_TYPE a, PYMODEL_SIMT_TYPE b) { return !(a == b); }
inline bool operator<(PYMODEL_SIMT_TYPE a, PYMODEL_SIMT_TYPE b) {
  return static_cast<float>(a) < static_cast<float>(b);
}
inline bool operator>(PYMODEL_SIMT_TYPE a, PYMODEL_SIMT_TYPE b) { return b < a; }
inline bool operator<=(PYMODEL_SIMT_TYPE a, PYMODEL_SIMT_TYPE b) {
  return static_cast<float>(a) <= static_cast<float>(b);
}
inline bool operator>=(PYMODEL_SIMT_TYPE a, PYMODEL_SIMT_TYPE b) { return b <= a; }

struct alignas(4) PYMODEL_SIMT_PAIR {
  PYMODEL_SIMT_TYPE x, y;
};
inline PYMODEL_SIMT_PAIR operator+(PYMODEL_SIMT_PAIR a, PYMODEL_SIMT_PAIR b) {
  return {a.x + b.x, a.y + b.y};
}
inline PYMODEL_SIMT_PAIR operator*(PYMODEL_SIMT_PAIR a, PYMODEL_SIMT_PAIR b) {
  return {a.x * b.x, a.y * b.y};
}
inline PYMODEL_SIMT_TYPE __low2half(PYMODEL_SIMT_PAIR v) { return v.x; }
inline PYMODEL_SIMT_TYPE __high2half(PYMODEL_SIMT_PAIR v) { return v.y; }
inline float __low2float(PYMODEL_SIMT_PAIR v) { return v.x; }
inline float __high2float(PYMODEL_SIMT_PAIR v) { return v.y; }
