// Rotary position embedding (Su et al. 2021, "RoFormer"): pairs of a head's values turn by an angle that
// grows with the position.
#pragma once

#include "gatewright/layers/rotary_frequencies.h"
#include "gatewright/tensor.h"

namespace gatewright {

enum class RotaryOrder {
  kHalves,      // value i turns with value i + D/2 (GPT-NeoX, Llama in Hugging Face's files)
  kInterleaved  // value 2 i turns with value 2 i + 1 (the paper)
};

struct RotaryTable {
  Tensor cosine, sine;  // float32 [positions, D/2]
};

/// Angles position * theta^(-2 i / D) for i < D/2.
RotaryTable make_rotary_table(int64_t positions, int64_t head_dim, double theta,
                              at::Device device = at::kCPU);
/// Angles position * frequency; cosine and sine times the magnitude.
RotaryTable make_rotary_table(int64_t positions, const RotaryFrequencies& frequencies,
                              at::Device device = at::kCPU);
/// x [B, S, heads, D], positions int64 [B, S], each below the table's length -> x turned.
Tensor rotary(const Tensor& x, const RotaryTable& table, const Tensor& positions,
              RotaryOrder order = RotaryOrder::kHalves);
/// The same in plain tensor operations.
Tensor rotary_by_tensor_operations(const Tensor& x, const RotaryTable& table, const Tensor& positions,
                                   RotaryOrder order = RotaryOrder::kHalves);

}  // namespace gatewright
