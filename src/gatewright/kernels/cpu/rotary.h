// Rotary position embedding of float32 heads whose value i turns with value i + D / 2.
#pragma once

#include <cstdint>

namespace gatewright::kernels {

/// x and out [tokens, heads, head_dim]; cosine and sine [positions, head_dim / 2]; position [tokens]. Every
/// pair turns by its token's angle times direction: 1 forward, -1 for the gradient. out may be x.
void rotate_halves(int64_t tokens, int64_t heads, int64_t head_dim, const float* x, const float* cosine,
                   const float* sine, const int64_t* position, float direction, float* out);

}  // namespace gatewright::kernels
