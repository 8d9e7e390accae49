// Which processors the CPU kernels are compiled for. Included before foreach_target.h, so that every kernel
// exists for the same targets and a test can walk through them all.
#pragma once

// AVX-512, AVX2 and SSE2 on x86; NEON and the rest of the world keep Highway's own list.
#define HWY_DISABLED_TARGETS (HWY_AVX3_DL | HWY_SSE4 | HWY_SSSE3)
