// One chunk of rows through its expert: hidden -> gate, up -> h -> down, all in panels.
#if defined(GATEWRIGHT_KERNELS_FFN_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GATEWRIGHT_KERNELS_FFN_FORWARD_INL_H_
#undef GATEWRIGHT_KERNELS_FFN_FORWARD_INL_H_
#else
#define GATEWRIGHT_KERNELS_FFN_FORWARD_INL_H_
#endif

#include "gatewright/kernels/cpu/activation-inl.h"
#include "gatewright/kernels/cpu/combine-inl.h"
#include "gatewright/kernels/cpu/dot_product-inl.h"
#include "gatewright/kernels/cpu/ffn_plan.h"
#include "gatewright/kernels/cpu/scratch.h"
#include "gatewright/kernels/cpu/work_items.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

constexpr int64_t kFeatureBlock = 8 * kTileRows;  // features between two calls of the activation

/// An expert's parameters out of the stacks.
template <typename T>
struct ExpertWeights {
  const T *gate, *up, *down, *gate_bias, *up_bias, *down_bias;

  ExpertWeights(const FfnSizes& s, const FfnWeights& w, int64_t e)
      : gate(slice(w.gate, e * s.width * s.hidden)),
        up(slice(w.up, e * s.width * s.hidden)),
        down(slice(w.down, e * s.width * s.hidden)),
        gate_bias(slice(w.gate_bias, e * s.width)),
        up_bias(slice(w.up_bias, e * s.width)),
        down_bias(slice(w.down_bias, e * s.hidden)) {}

 private:
  static const T* slice(const void* stack, int64_t offset) {
    return stack ? static_cast<const T*>(stack) + offset : nullptr;
  }
};

/// The hidden states (or their gradients) of a chunk's tokens as panels.
template <typename T>
void gather_panels(const T* rows, const int64_t* token, const Panels& to) {
  for (int64_t p = 0; p < to.count(); ++p) {
    const int64_t* ids = token + p * kPanel;
    pack_panel([&](int64_t r) { return rows + ids[r] * to.features; }, to.columns(p), to.features,
               to.at(p, 0));
  }
}

HWY_INLINE Panels new_panels(Scratch& scratch, int64_t features, int64_t tokens) {
  Panels result = {.data = nullptr, .features = features, .tokens = tokens};
  result.data = scratch.floats(result.count() * features * kPanel);
  return result;
}

/// The panels of one chunk inside a buffer that holds those of the whole assignment.
HWY_INLINE Panels chunk_panels(float* all, const FfnChunk& chunk, int64_t features) {
  return {.data = all + chunk.first_panel * features * kPanel, .features = features, .tokens = chunk.rows};
}

/// The features [first, last) of gate and up before the activation.
template <typename T>
void pre_activation(const FfnSizes& s, const ExpertWeights<T>& w, const Panels& x, const Panels& gate,
                    const Panels& up, int64_t first, int64_t last, float* pack) {
  if (w.gate) panel_product(Matrix<T>{w.gate, s.hidden}, first, last, x, gate, false, pack);
  panel_product(Matrix<T>{w.up, s.hidden}, first, last, x, up, false, pack);
  if (w.gate_bias) add_bias(gate, first, last, w.gate_bias);
  if (w.up_bias) add_bias(up, first, last, w.up_bias);
}

/// Whether the expert's products with whole rows of a matrix are those of dot_product-inl.h: a matter of the
/// expert and not of the chunk, whose rows depend on the number of threads. Such an expert is one chunk of
/// one panel.
HWY_INLINE bool takes_dot_products(const FfnPairs& pairs, int64_t e) {
  return pairs.expert_begin[e + 1] - pairs.expert_begin[e] <= kDotRowsOfExpert;
}

/// All features of gate and up before the activation, by dot products. token: of the rows of `hidden`.
template <typename T>
void pre_activation_by_dots(const FfnSizes& s, const ExpertWeights<T>& w, const T* hidden,
                            const int64_t* token, const Panels& gate, const Panels& up) {
  Scratch scratch;
  const DotRows x = new_dot_rows(scratch, s.hidden, up.tokens);
  gather_dot_rows([&](int64_t t) { return hidden + token[t] * s.hidden; }, x);
  if (w.gate) dot_product(w.gate, s.hidden, s.width, x, gate);
  dot_product(w.up, s.hidden, s.width, x, up);
  if (w.gate_bias) add_bias(gate, 0, s.width, w.gate_bias);
  if (w.up_bias) add_bias(up, 0, s.width, w.up_bias);
}

/// rows: [pairs of the chunk, H], before the weights.
template <typename T>
void forward_chunk(const FfnSizes& s, const FfnPairs& pairs, const FfnWeights& weights, const T* hidden,
                   const FfnChunk& chunk, float* saved_gate, float* saved_up, float* rows) {
  Scratch scratch;
  float* pack = scratch.floats(kPackFloats);
  const ExpertWeights<T> w(s, weights, chunk.expert);
  const Panels x = new_panels(scratch, s.hidden, chunk.rows);
  const Panels h = new_panels(scratch, s.width, chunk.rows);
  const Panels up =
      saved_up ? chunk_panels(saved_up, chunk, s.width) : new_panels(scratch, s.width, chunk.rows);
  const Panels gate = !w.gate      ? up
                      : saved_gate ? chunk_panels(saved_gate, chunk, s.width)
                                   : new_panels(scratch, s.width, chunk.rows);
  const int64_t* token = pairs.token + chunk.first_pair;
  const Panels y = x;  // the input is not needed any more when this is written
  if (takes_dot_products(pairs, chunk.expert)) {
    pre_activation_by_dots(s, w, hidden, token, gate, up);
    activate(s.activation, gate, up, h, 0, s.width);
    const DotRows h_rows = new_dot_rows(scratch, s.width, chunk.rows);
    panel_to_dot_rows(h, h_rows);
    dot_product(w.down, s.width, s.hidden, h_rows, y);
  } else {
    gather_panels(hidden, token, x);
    for (int64_t f = 0; f < s.width; f += kFeatureBlock) {
      const int64_t last = std::min(s.width, f + kFeatureBlock);
      pre_activation(s, w, x, gate, up, f, last, pack);
      activate(s.activation, gate, up, h, f, last);
    }
    panel_product(Matrix<T>{w.down, s.width}, 0, s.hidden, h, y, false, pack);
  }
  if (w.down_bias) add_bias(y, 0, s.hidden, w.down_bias);
  for (int64_t p = 0; p < y.count(); ++p)
    unpack_panel(y.at(p, 0), y.columns(p), s.hidden, rows + p * kPanel * s.hidden, s.hidden);
}

template <typename T>
void forward(const FfnSizes& s, const FfnPairs& pairs, const FfnWeights& weights, const T* hidden,
             float* saved, T* out) {
  const int64_t num_pairs = pairs.expert_begin[s.experts];
  const FfnPlan plan = plan_ffn(s.experts, pairs.expert_begin, ffn_chunk_rows(s, num_pairs, num_threads()));
  const bool gated = s.activation == Activation::swiglu;
  float* saved_gate = saved && gated ? saved + plan.num_panels() * s.width * kPanel : nullptr;
  Scratch scratch;
  float* rows = scratch.floats(num_pairs * s.hidden);
  for_each_item(static_cast<int64_t>(plan.chunks.size()), [&](int64_t i) {
    const FfnChunk& chunk = plan.chunks[static_cast<size_t>(i)];
    forward_chunk(s, pairs, weights, hidden, chunk, saved_gate, saved, rows + chunk.first_pair * s.hidden);
  });
  combine(index_by_token(s.tokens, num_pairs, pairs.token), rows, s.hidden, pairs.weight, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard for each target
