// A tensor that is going to be written: its place in the file is known before its bytes are.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "gatewright/formats/tensor_view.h"

namespace gatewright {

/// Takes the next bytes of a tensor, in any number of pieces.
using ByteSink = std::function<void(std::span<const std::byte>)>;

struct TensorPlan {
  std::string name;
  DataType dtype = DataType::kF32;
  std::vector<int64_t> shape;  // as in TensorView
  /// The bytes, when they are at hand and there is no `produce`.
  std::span<const std::byte> data = {};
  /// Makes the bytes when it is the tensor's turn, so that a file larger than memory can be written. Fewer or
  /// more bytes than the shape takes are an error of the writer.
  std::function<void(const ByteSink& sink)> produce = {};
};

inline TensorPlan plan_of(const TensorView& view) {
  return {.name = view.name, .dtype = view.dtype, .shape = view.shape, .data = view.data};
}

/// Hands the bytes of the tensor to the sink; fails when they are not as many as its shape takes.
void write_tensor(const TensorPlan& tensor, const ByteSink& sink);

}  // namespace gatewright
