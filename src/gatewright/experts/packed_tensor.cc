#include "gatewright/experts/packed_tensor.h"

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/kernels/cpu/packed_gemm.h"

namespace gatewright {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What the storage of a packed tensor carries.
struct Content {
  std::vector<PackedMatrix> matrices;
  bool stacked = false;
  std::shared_ptr<const void> owner;
};

void release(void* content) { delete static_cast<Content*>(content); }

const Content* content_of(const Tensor& tensor) {
  if (!tensor.defined() || tensor.scalar_type() != at::kByte) return nullptr;
  const c10::DataPtr& pointer = tensor.storage().data_ptr();
  return pointer.get_deleter() == &release ? static_cast<const Content*>(pointer.get_context()) : nullptr;
}

int64_t row_bytes(const PackedMatrix& m) { return m.columns / block_elements(m.type) * block_bytes(m.type); }

kernels::PackedRows rows_of(const PackedMatrix& m) {
  return {.type = m.type, .rows = m.rows, .columns = m.columns, .data = m.data};
}

Tensor product_with(const Tensor& x, const PackedMatrix& m) {
  const Tensor out = at::empty({x.size(0), m.rows}, x.options());
  kernels::packed_gemm_nt(x.size(0), x.data_ptr<float>(), rows_of(m), out.data_ptr<float>());
  return out;
}

struct PackedProduct : torch::autograd::Function<PackedProduct> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, int64_t index) {
    context->saved_data["weight"] = weight;
    context->saved_data["index"] = index;
    return product_with(x, packed_matrices(weight)[static_cast<size_t>(index)]);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    return {transposed_packed_product(grads[0], context->saved_data["weight"].toTensor(),
                                      context->saved_data["index"].toInt()),
            Tensor(), Tensor()};
  }
};

}  // namespace

Tensor make_packed_tensor(const std::vector<PackedMatrix>& matrices, bool stacked,
                          std::shared_ptr<const void> owner) {
  require(!matrices.empty() && (stacked || matrices.size() == 1),
          "[packed] one matrix, or a stack of them, is expected");
  const PackedMatrix& first = matrices[0];
  for (const PackedMatrix& m : matrices)
    require(m.rows == first.rows && m.columns == first.columns && m.columns % block_elements(m.type) == 0,
            "[packed] matrices of one shape, whose rows are whole blocks, are expected");
  auto content = std::make_unique<Content>(Content{matrices, stacked, std::move(owner)});
  auto* bytes = const_cast<std::byte*>(first.data);
  const int64_t width = row_bytes(first), size = first.rows * width;
  c10::Storage storage(c10::Storage::use_byte_size_t(), static_cast<size_t>(size),
                       c10::DataPtr(bytes, content.release(), &release, c10::DeviceType::CPU));
  Tensor tensor = at::empty({0}, at::kByte);
  // A stack steps by nothing: its storage is the first matrix only.
  if (stacked)
    tensor.set_(storage, 0, {static_cast<int64_t>(matrices.size()), first.rows, width}, {0, width, 1});
  else
    tensor.set_(storage, 0, {first.rows, width}, {width, 1});
  return tensor;
}

bool is_packed(const Tensor& tensor) { return content_of(tensor) != nullptr; }

Tensor stack_of_packed(const Tensor& matrix) {
  const Content* content = content_of(matrix);
  require(content != nullptr && !content->stacked, "[packed] one packed matrix is expected");
  return make_packed_tensor(content->matrices, true, content->owner);
}

std::span<const PackedMatrix> packed_matrices(const Tensor& tensor) {
  const Content* content = content_of(tensor);
  require(content != nullptr, "[packed] the tensor is an ordinary one");
  return content->matrices;
}

int64_t num_values(const Tensor& tensor) {
  if (!is_packed(tensor)) return tensor.numel();
  const auto matrices = packed_matrices(tensor);
  return std::ssize(matrices) * matrices[0].rows * matrices[0].columns;
}

int64_t input_width(const Tensor& weight) {
  return is_packed(weight) ? packed_matrices(weight)[0].columns : weight.size(-1);
}

Tensor packed_product(const Tensor& x, const Tensor& weight, int64_t index) {
  require(x.dim() == 2 && x.is_cpu() && x.scalar_type() == at::kFloat && x.size(1) == input_width(weight),
          "[packed] packed weights multiply float32 rows of {} values on the CPU", input_width(weight));
  // A node of the graph costs as much as a small product.
  if (!at::GradMode::is_enabled())
    return product_with(x.contiguous(), packed_matrices(weight)[static_cast<size_t>(index)]);
  return PackedProduct::apply(x.contiguous(), weight, index);
}

Tensor transposed_packed_product(const Tensor& gradient, const Tensor& weight, int64_t index) {
  const PackedMatrix& m = packed_matrices(weight)[static_cast<size_t>(index)];
  const Tensor rows = gradient.contiguous(), result = at::empty({rows.size(0), m.columns}, rows.options());
  kernels::packed_gemm_nn(rows.size(0), rows.data_ptr<float>(), rows_of(m), result.data_ptr<float>());
  return result;
}

Tensor packed_rows(const Tensor& tokens, const Tensor& weight) {
  const PackedMatrix& m = packed_matrices(weight)[0];
  const Tensor ids = tokens.reshape({-1}).contiguous();
  const Tensor out = at::empty({ids.size(0), m.columns}, at::kFloat);
  const auto bytes = static_cast<size_t>(row_bytes(m));
  for (int64_t i = 0; i < ids.size(0); ++i) {
    const int64_t row = ids.data_ptr<int64_t>()[i];
    require(row >= 0 && row < m.rows, "there is no row {}: the matrix has rows 0 to {}", row, m.rows - 1);
    unpack(m.type, {m.data + static_cast<size_t>(row) * bytes, bytes},
           {out.data_ptr<float>() + i * m.columns, static_cast<size_t>(m.columns)});
  }
  std::vector<int64_t> shape = tokens.sizes().vec();
  shape.push_back(m.columns);
  return out.view(shape);
}

Tensor unpacked(const Tensor& weight) {
  const auto matrices = packed_matrices(weight);
  const int64_t rows = matrices[0].rows, columns = matrices[0].columns;
  const Tensor out = at::empty({std::ssize(matrices), rows, columns}, at::kFloat);
  parallel_for(0, std::ssize(matrices) * rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const PackedMatrix& m = matrices[static_cast<size_t>(i / rows)];
      const auto bytes = static_cast<size_t>(row_bytes(m));
      unpack(m.type, {m.data + static_cast<size_t>(i % rows) * bytes, bytes},
             {out.data_ptr<float>() + i * columns, static_cast<size_t>(columns)});
    }
  });
  return content_of(weight)->stacked ? out : out[0];
}

}  // namespace gatewright
