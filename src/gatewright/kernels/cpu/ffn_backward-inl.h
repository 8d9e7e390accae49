// The gradients of feed-forward experts. First, chunk by chunk, everything that belongs to rows (activations,
// hidden states, pair weights); then, by expert and block of columns, the weights, summed over the expert's
// rows. Experts that are many and small go through both at once, one after another.
#if defined(GATEWRIGHT_KERNELS_FFN_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GATEWRIGHT_KERNELS_FFN_BACKWARD_INL_H_
#undef GATEWRIGHT_KERNELS_FFN_BACKWARD_INL_H_
#else
#define GATEWRIGHT_KERNELS_FFN_BACKWARD_INL_H_
#endif

#include "gatewright/kernels/cpu/ffn_forward-inl.h"
#include "gatewright/kernels/cpu/outer_product-inl.h"
#include "gatewright/kernels/cpu/row_product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

/// What the row pass leaves for the weight pass: panels of the whole assignment, or of one expert.
struct BackwardBuffers {
  int64_t first_panel = 0;  // of the assignment, with which the panels begin
  float* grad_gate;
  float* grad_up;
  float* weighted_h;
  float* grad_y;     // gradient of the output, before the pairs' weights
  float* grad_rows;  // [N, H] gradient of the hidden states, a row for each pair; null when not wanted
};

template <typename T>
struct Backward {
  FfnSizes s;
  FfnPairs pairs;
  FfnWeights weights;
  const T* hidden;
  const float* saved_up;  // null: computed again
  const float* saved_gate;
  const T* grad_out;
  float* grad_weight;
  FfnGradients gradients;
  BackwardBuffers buffers;
  const FfnPlan* plan;
};

/// Panels of a chunk in a buffer of the row pass.
template <typename T>
Panels buffer_panels(const Backward<T>& b, float* buffer, FfnChunk chunk, int64_t features) {
  chunk.first_panel -= b.buffers.first_panel;
  return chunk_panels(buffer, chunk, features);
}

/// Whether the expert's products are those of row_product-inl.h: a matter of the expert and not of the chunk,
/// whose rows depend on the number of threads.
HWY_INLINE bool has_few_rows(const FfnPairs& pairs, int64_t e) {
  return pairs.expert_begin[e + 1] - pairs.expert_begin[e] <= kFewRows;
}

/// rows = grad_gate^T W_gate + grad_up^T W_up. x: panels that may be overwritten.
template <typename T>
void grad_hidden_rows(const FfnSizes& s, const ExpertWeights<T>& w, bool few, const Panels& grad_gate,
                      const Panels& grad_up, const Panels& x, float* rows, float* pack) {
  if (few) {
    if (w.gate) row_product(grad_gate, w.gate, s.hidden, s.hidden, rows, s.hidden, false);
    return row_product(grad_up, w.up, s.hidden, s.hidden, rows, s.hidden, w.gate != nullptr);
  }
  if (w.gate) panel_product(Matrix<T>{w.gate, s.hidden, true}, 0, s.hidden, grad_gate, x, false, pack);
  panel_product(Matrix<T>{w.up, s.hidden, true}, 0, s.hidden, grad_up, x, w.gate != nullptr, pack);
  for (int64_t p = 0; p < x.count(); ++p)
    unpack_panel(x.at(p, 0), x.columns(p), s.hidden, rows + p * kPanel * s.hidden, s.hidden);
}

/// grad_h = W_down^T grad_y.
template <typename T>
void grad_middle(const FfnSizes& s, const ExpertWeights<T>& w, bool few, const Panels& grad_y,
                 const Panels& grad_h, float* pack) {
  if (!few) return panel_product(Matrix<T>{w.down, s.width, true}, 0, s.width, grad_y, grad_h, false, pack);
  Scratch scratch;
  float* rows = scratch.floats(grad_y.tokens * s.width);
  row_product(grad_y, w.down, s.width, s.width, rows, s.width, false);
  for (int64_t p = 0; p < grad_h.count(); ++p) {
    const float* first = rows + p * kPanel * s.width;
    pack_panel([&](int64_t r) { return first + r * s.width; }, grad_h.columns(p), s.width, grad_h.at(p, 0));
  }
}

/// to[i] += sum_h grad_y[h, i] bias[h]: the bias's share in the gradient of the pairs' weights.
template <typename T>
void add_bias_products(const Panels& grad_y, const T* bias, float* to) {
  for (int64_t p = 0; p < grad_y.count(); ++p) {
    for (int64_t h = 0; h < grad_y.features; ++h) {
      for (int64_t i = 0; i < grad_y.columns(p); ++i)
        to[p * kPanel + i] += grad_y.at(p, h)[i] * to_float(bias[h]);
    }
  }
}

template <typename T>
void backward_chunk(const Backward<T>& b, const FfnChunk& chunk) {
  const FfnSizes& s = b.s;
  Scratch scratch;
  float* pack = scratch.floats(kPackFloats);
  const ExpertWeights<T> w(s, b.weights, chunk.expert);
  const Panels x = new_panels(scratch, s.hidden, chunk.rows);
  const Panels grad_h = new_panels(scratch, s.width, chunk.rows);
  const Panels grad_y = buffer_panels(b, b.buffers.grad_y, chunk, s.hidden);
  const bool again = !b.saved_up;
  const Panels up = again ? new_panels(scratch, s.width, chunk.rows)
                          : chunk_panels(const_cast<float*>(b.saved_up), chunk, s.width);
  const Panels gate = !w.gate ? up
                      : again ? new_panels(scratch, s.width, chunk.rows)
                              : chunk_panels(const_cast<float*>(b.saved_gate), chunk, s.width);
  const int64_t columns = grad_y.count() * kPanel;
  float* weight = scratch.floats(2 * columns);
  float* grad_weight = weight + columns;
  std::fill(weight, weight + 2 * columns, 0.0f);
  std::copy(b.pairs.weight + chunk.first_pair, b.pairs.weight + chunk.first_pair + chunk.rows, weight);
  const ActivationBackward step = {.gate = gate,
                                   .up = up,
                                   .grad_h = grad_h,
                                   .grad_gate = buffer_panels(b, b.buffers.grad_gate, chunk, s.width),
                                   .grad_up = buffer_panels(b, b.buffers.grad_up, chunk, s.width),
                                   .weighted_h = buffer_panels(b, b.buffers.weighted_h, chunk, s.width),
                                   .weight = weight,
                                   .grad_weight = grad_weight};
  const int64_t* token = b.pairs.token + chunk.first_pair;
  const bool dots = takes_dot_products(b.pairs, chunk.expert);
  if (again && dots) pre_activation_by_dots(s, w, b.hidden, token, gate, up);
  if (again && !dots) gather_panels(b.hidden, token, x);
  gather_panels(b.grad_out, token, grad_y);
  const bool few = has_few_rows(b.pairs, chunk.expert);
  grad_middle(s, w, few, grad_y, grad_h, pack);
  for (int64_t f = 0; f < s.width; f += kFeatureBlock) {
    const int64_t last = std::min(s.width, f + kFeatureBlock);
    if (again && !dots) pre_activation(s, w, x, gate, up, f, last, pack);
    backward_activation(s.activation, step, f, last);
  }
  if (w.down_bias) add_bias_products(grad_y, w.down_bias, grad_weight);
  std::copy(grad_weight, grad_weight + chunk.rows, b.grad_weight + chunk.first_pair);
  if (b.buffers.grad_rows) {
    grad_hidden_rows(s, w, few, step.grad_gate, step.grad_up, x,
                     b.buffers.grad_rows + chunk.first_pair * s.hidden, pack);
  }
}

/// All panels of one expert in a buffer of the row pass.
template <typename T>
Panels expert_panels(const Backward<T>& b, float* all, int64_t features, int64_t e) {
  const int64_t panel = b.plan->panel_begin[static_cast<size_t>(e)] - b.buffers.first_panel;
  return {.data = all + panel * features * kPanel,
          .features = features,
          .tokens = b.pairs.expert_begin[e + 1] - b.pairs.expert_begin[e]};
}

/// Columns [first, last) of the gradients of gate and up [F, H].
template <typename T>
void grad_in_columns(const Backward<T>& b, int64_t e, int64_t first, int64_t last) {
  const FfnSizes& s = b.s;
  const int64_t* token = b.pairs.token + b.pairs.expert_begin[e];
  const auto pack_rows_of = [&](int64_t row, int64_t count, int64_t column, int64_t columns, float* to) {
    for (int64_t r = 0; r < count; ++r)
      copy_row(b.hidden + token[row + r] * s.hidden + column, columns, to + r * kPanel);
  };
  OuterProduct<T> products[2];
  int count = 0;
  const int64_t offset = e * s.width * s.hidden;
  if (b.gradients.gate)
    products[count++] = {expert_panels(b, b.buffers.grad_gate, s.width, e),
                         static_cast<T*>(b.gradients.gate) + offset};
  if (b.gradients.up)
    products[count++] = {expert_panels(b, b.buffers.grad_up, s.width, e),
                         static_cast<T*>(b.gradients.up) + offset};
  outer_products(products, count, s.hidden, first, last, pack_rows_of);
}

/// Columns [first, last) of the gradient of down [H, F].
template <typename T>
void grad_down_columns(const Backward<T>& b, int64_t e, int64_t first, int64_t last) {
  const FfnSizes& s = b.s;
  if (!b.gradients.down) return;
  const Panels h = expert_panels(b, b.buffers.weighted_h, s.width, e);
  const auto pack_rows_of = [&](int64_t row, int64_t count, int64_t column, int64_t columns, float* to) {
    for (int64_t r = 0; r < count; r += kPanel) {
      unpack_panel(h.at((row + r) / kPanel, column), std::min(kPanel, count - r), columns, to + r * kPanel,
                   kPanel);
    }
  };
  const OuterProduct<T> product = {expert_panels(b, b.buffers.grad_y, s.hidden, e),
                                   static_cast<T*>(b.gradients.down) + e * s.hidden * s.width};
  outer_products(&product, 1, s.width, first, last, pack_rows_of);
}

/// to[f] = sum over the columns of weight * x[f]; weight may be null.
template <typename T>
void sum_columns(const Panels& x, const float* weight, T* to) {
  for (int64_t f = 0; f < x.features; ++f) {
    float sum = 0;
    for (int64_t p = 0; p < x.count(); ++p) {
      const float* row = x.at(p, f);
      for (int64_t i = 0; i < x.columns(p); ++i) sum += row[i] * (weight ? weight[p * kPanel + i] : 1.0f);
    }
    to[f] = from_float<T>(sum);
  }
}

template <typename T>
void grad_biases(const Backward<T>& b, int64_t e) {
  const FfnSizes& s = b.s;
  if (b.gradients.gate_bias)
    sum_columns(expert_panels(b, b.buffers.grad_gate, s.width, e), nullptr,
                static_cast<T*>(b.gradients.gate_bias) + e * s.width);
  if (b.gradients.up_bias)
    sum_columns(expert_panels(b, b.buffers.grad_up, s.width, e), nullptr,
                static_cast<T*>(b.gradients.up_bias) + e * s.width);
  if (b.gradients.down_bias)
    sum_columns(expert_panels(b, b.buffers.grad_y, s.hidden, e), b.pairs.weight + b.pairs.expert_begin[e],
                static_cast<T*>(b.gradients.down_bias) + e * s.hidden);
}

/// Blocks of columns of one expert's gradients: those of gate and up, then those of down.
HWY_INLINE int64_t num_weight_blocks(const FfnSizes& s) {
  return (s.hidden + kOuterColumns - 1) / kOuterColumns + (s.width + kOuterColumns - 1) / kOuterColumns;
}

template <typename T>
void backward_weights(const Backward<T>& b, int64_t e, int64_t block) {
  const int64_t in_blocks = (b.s.hidden + kOuterColumns - 1) / kOuterColumns;
  if (block < in_blocks) {
    const int64_t first = block * kOuterColumns;
    grad_in_columns(b, e, first, std::min(b.s.hidden, first + kOuterColumns));
    if (block == 0) grad_biases(b, e);
  } else {
    const int64_t first = (block - in_blocks) * kOuterColumns;
    grad_down_columns(b, e, first, std::min(b.s.width, first + kOuterColumns));
  }
}

template <typename T>
void take_buffers(Backward<T>& b, int64_t first_panel, int64_t panels, Scratch& scratch) {
  const int64_t middle = panels * b.s.width * kPanel;
  b.buffers.first_panel = first_panel;
  b.buffers.grad_gate = b.s.activation == Activation::swiglu ? scratch.floats(middle) : nullptr;
  b.buffers.grad_up = scratch.floats(middle);
  b.buffers.weighted_h = scratch.floats(middle);
  b.buffers.grad_y = scratch.floats(panels * b.s.hidden * kPanel);
}

/// Both passes of one expert.
template <typename T>
void backward_expert(Backward<T> b, int64_t e) {
  const auto index = static_cast<size_t>(e);
  const int64_t first = b.plan->panel_begin[index];
  Scratch scratch;
  take_buffers(b, first, b.plan->panel_begin[index + 1] - first, scratch);
  const auto of_expert = [](const FfnChunk& chunk, int64_t expert) { return chunk.expert < expert; };
  const auto& chunks = b.plan->chunks;
  for (auto chunk = std::lower_bound(chunks.begin(), chunks.end(), e, of_expert);
       chunk != chunks.end() && chunk->expert == e; ++chunk)
    backward_chunk(b, *chunk);
  for (int64_t block = 0; block < num_weight_blocks(b.s); ++block) backward_weights(b, e, block);
}

/// Whether what lies between the passes of every expert stays in the L2 cache, and there are enough experts
/// for all threads.
HWY_INLINE bool expert_by_expert(const FfnSizes& s, const FfnPlan& plan) {
  constexpr int64_t kCachedFloats = int64_t{1} << 18;  // 1 MB
  int64_t panels = 0;
  for (size_t e = 1; e < plan.panel_begin.size(); ++e)
    panels = std::max(panels, plan.panel_begin[e] - plan.panel_begin[e - 1]);
  return s.experts >= 4 * num_threads() && panels * kPanel * (s.hidden + 3 * s.width) <= kCachedFloats;
}

template <typename T>
void backward(Backward<T> b, T* grad_hidden) {
  const FfnSizes& s = b.s;
  const int64_t num_pairs = b.pairs.expert_begin[s.experts];
  const FfnPlan plan = plan_ffn(s.experts, b.pairs.expert_begin, ffn_chunk_rows(s, num_pairs, num_threads()));
  b.plan = &plan;
  if (b.saved_up && s.activation == Activation::swiglu)
    b.saved_gate = b.saved_up + plan.num_panels() * s.width * kPanel;
  Scratch scratch;
  b.buffers.grad_rows = grad_hidden ? scratch.floats(num_pairs * s.hidden) : nullptr;
  const bool at_once = expert_by_expert(s, plan);
  if (at_once) {
    for_each_item(s.experts, [&](int64_t e) { backward_expert(b, e); });
  } else {
    take_buffers(b, 0, plan.num_panels(), scratch);
    for_each_item(static_cast<int64_t>(plan.chunks.size()),
                  [&](int64_t i) { backward_chunk(b, plan.chunks[static_cast<size_t>(i)]); });
  }
  if (grad_hidden)
    combine(index_by_token(s.tokens, num_pairs, b.pairs.token), b.buffers.grad_rows, s.hidden, nullptr,
            grad_hidden);
  if (at_once) return;
  const int64_t blocks = num_weight_blocks(s);
  for_each_item(s.experts * blocks, [&](int64_t i) { backward_weights(b, i / blocks, i % blocks); });
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard for each target
