// Frozen weights as a file has them: tensors that stand for mapped matrices of any type, unpacked a few rows
// at a time where they are multiplied with.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "gatewright/formats/tensor_view.h"
#include "gatewright/tensor.h"

namespace gatewright {

/// One matrix [rows, columns] of rows that follow each other in memory.
struct PackedMatrix {
  DataType type = DataType::kF32;
  int64_t rows = 0, columns = 0;
  const std::byte* data = nullptr;
};

/// A tensor that stands for matrices which may lie apart from each other: one gives [rows, row bytes],
/// several [E, rows, row bytes], of type uint8. `owner` keeps the bytes alive. Only packed_matrices() looks
/// into it: no operation of LibTorch can compute with it, and it needs no gradient.
Tensor make_packed_tensor(const std::vector<PackedMatrix>& matrices, bool stacked,
                          std::shared_ptr<const void> owner);

bool is_packed(const Tensor& tensor);
/// A packed matrix as a stack of one.
Tensor stack_of_packed(const Tensor& matrix);
/// The matrices of a packed tensor, those of a stack in their order.
std::span<const PackedMatrix> packed_matrices(const Tensor& tensor);
/// Values that a tensor holds, packed or not.
int64_t num_values(const Tensor& tensor);
/// Input and output width of a weight [out, in], packed or not.
int64_t input_width(const Tensor& weight);

/// x [T, in] float32 on the CPU, matrix [out, in] -> x matrix^T [T, out], with the gradient of x.
Tensor packed_product(const Tensor& x, const Tensor& weight, int64_t index = 0);
/// gradient [T, out] -> gradient matrix [T, in].
Tensor transposed_packed_product(const Tensor& gradient, const Tensor& weight, int64_t index = 0);
/// Rows of the one matrix of a packed tensor as float32: tokens int64 of any shape -> [..., columns].
Tensor packed_rows(const Tensor& tokens, const Tensor& weight);
/// All matrices as float32: [rows, columns], or [E, rows, columns] for a stack.
Tensor unpacked(const Tensor& weight);

}  // namespace gatewright
