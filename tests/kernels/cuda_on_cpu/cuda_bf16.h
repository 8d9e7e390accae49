// Stands in for CUDA's header of the same name.
#pragma once

#include "gatewright/kernels/cpu/element.h"

struct __nv_bfloat16 {
  gatewright::kernels::BFloat16 value;
};
inline float __bfloat162float(__nv_bfloat16 x) { return gatewright::kernels::to_float(x.value); }
inline __nv_bfloat16 __float2bfloat16(float x) {
  return {gatewright::kernels::from_float<gatewright::kernels::BFloat16>(x)};
}
