// Activations of feed-forward experts on panels, forward and backward, with their biases.
#if defined(GATEWRIGHT_KERNELS_ACTIVATION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GATEWRIGHT_KERNELS_ACTIVATION_INL_H_
#undef GATEWRIGHT_KERNELS_ACTIVATION_INL_H_
#else
#define GATEWRIGHT_KERNELS_ACTIVATION_INL_H_
#endif

#include "gatewright/kernels/cpu/expert_ffn.h"
#include "gatewright/kernels/cpu/panel_product-inl.h"
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

HWY_INLINE FloatVec sigmoid(FloatVec x) {
  const FloatTag d;
  const FloatVec one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, hn::Exp(d, hn::Neg(x))));
}

/// erf with an error under 2e-7 (Abramowitz and Stegun, 7.1.26); gauss = exp(-x^2).
HWY_INLINE FloatVec erf(FloatVec x, FloatVec gauss) {
  const FloatTag d;
  const FloatVec one = hn::Set(d, 1.0f);
  const FloatVec t = hn::Div(one, hn::MulAdd(hn::Set(d, 0.3275911f), hn::Abs(x), one));
  FloatVec p = hn::MulAdd(hn::Set(d, 1.061405429f), t, hn::Set(d, -1.453152027f));
  p = hn::MulAdd(p, t, hn::Set(d, 1.421413741f));
  p = hn::MulAdd(p, t, hn::Set(d, -0.284496736f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.254829592f));
  return hn::CopySign(hn::NegMulAdd(hn::Mul(p, t), gauss, one), x);
}

/// Phi(x), the normal distribution function, and its density.
HWY_INLINE FloatVec normal_cdf(FloatVec x, FloatVec& density) {
  const FloatTag d;
  const FloatVec gauss = hn::Exp(d, hn::Mul(hn::Mul(x, x), hn::Set(d, -0.5f)));
  density = hn::Mul(gauss, hn::Set(d, 0.398942280f));
  const FloatVec half = hn::Set(d, 0.5f);
  return hn::MulAdd(erf(hn::Mul(x, hn::Set(d, 0.707106781f)), gauss), half, half);
}

/// Adds bias[f] to row f of every panel.
template <typename T>
void add_bias(const Panels& x, int64_t first, int64_t last, const T* bias) {
  const FloatTag d;
  for (int64_t p = 0; p < x.count(); ++p) {
    for (int64_t f = first; f < last; ++f) {
      const FloatVec b = hn::Set(d, to_float(bias[f]));
      float* row = x.at(p, f);
      for (int64_t i = 0; i < kPanel; i += lanes()) hn::StoreU(hn::Add(hn::LoadU(d, row + i), b), d, row + i);
    }
  }
}

/// h = activation(gate, up) for the features [first, last); gate is not read without swiglu.
HWY_NOINLINE void activate(Activation kind, const Panels& gate, const Panels& up, const Panels& h,
                           int64_t first, int64_t last) {
  const FloatTag d;
  for (int64_t p = 0; p < h.count(); ++p) {
    for (int64_t column = 0; column < h.columns(p); column += lanes()) {
      const int64_t base = p * h.features * kPanel + column;
      for (int64_t at = base + first * kPanel; at < base + last * kPanel; at += kPanel) {
        const FloatVec x = hn::LoadU(d, up.data + at);
        FloatVec result;
        if (kind == Activation::swiglu) {
          const FloatVec z = hn::LoadU(d, gate.data + at);
          result = hn::Mul(hn::Mul(z, sigmoid(z)), x);
        } else if (kind == Activation::gelu) {
          FloatVec density;
          result = hn::Mul(x, normal_cdf(x, density));
        } else if (kind == Activation::silu) {
          result = hn::Mul(x, sigmoid(x));
        } else {
          result = hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x);
        }
        hn::StoreU(result, d, h.data + at);
      }
    }
  }
}

/// What backward_activation reads and writes for one chunk; all panels have the same features.
struct ActivationBackward {
  Panels gate, up;            // read: values before the activation
  Panels grad_h;              // read: gradient of h before the pair's weight
  Panels grad_gate, grad_up;  // written: gradients of gate and up
  Panels weighted_h;          // written: weight * h
  const float* weight;        // [32 * panels] weight of each column
  float* grad_weight;         // [32 * panels] += sum over features of grad_h * h
};

HWY_NOINLINE void backward_activation(Activation kind, const ActivationBackward& a, int64_t first,
                                      int64_t last) {
  const FloatTag d;
  const int64_t n = lanes();
  const FloatVec one = hn::Set(d, 1.0f);
  for (int64_t p = 0; p < a.up.count(); ++p) {
    for (int64_t column = 0; column < a.up.columns(p); column += n) {
      const FloatVec w = hn::LoadU(d, a.weight + p * kPanel + column);
      FloatVec dw = hn::LoadU(d, a.grad_weight + p * kPanel + column);
      const int64_t base = p * a.up.features * kPanel + column;
      for (int64_t at = base + first * kPanel; at < base + last * kPanel; at += kPanel) {
        const FloatVec u = hn::LoadU(d, a.up.data + at);
        const FloatVec dh = hn::LoadU(d, a.grad_h.data + at);
        const FloatVec wdh = hn::Mul(w, dh);
        FloatVec h;
        if (kind == Activation::swiglu) {
          const FloatVec g = hn::LoadU(d, a.gate.data + at);
          const FloatVec s = sigmoid(g);
          const FloatVec silu = hn::Mul(g, s);
          h = hn::Mul(silu, u);
          // silu'(g) = s (1 + g (1 - s)) = s + silu (1 - s)
          const FloatVec slope = hn::MulAdd(silu, hn::Sub(one, s), s);
          hn::StoreU(hn::Mul(hn::Mul(wdh, u), slope), d, a.grad_gate.data + at);
          hn::StoreU(hn::Mul(wdh, silu), d, a.grad_up.data + at);
        } else if (kind == Activation::gelu) {
          FloatVec density;
          const FloatVec cdf = normal_cdf(u, density);
          h = hn::Mul(u, cdf);
          hn::StoreU(hn::Mul(wdh, hn::MulAdd(u, density, cdf)), d, a.grad_up.data + at);
        } else if (kind == Activation::silu) {
          const FloatVec s = sigmoid(u);
          h = hn::Mul(u, s);
          hn::StoreU(hn::Mul(wdh, hn::MulAdd(h, hn::Sub(one, s), s)), d, a.grad_up.data + at);
        } else {
          const auto negative = hn::Lt(u, hn::Zero(d));
          h = hn::IfThenZeroElse(negative, u);
          hn::StoreU(hn::IfThenZeroElse(hn::Le(u, hn::Zero(d)), wdh), d, a.grad_up.data + at);
        }
        dw = hn::MulAdd(dh, h, dw);
        hn::StoreU(hn::Mul(w, h), d, a.weighted_h.data + at);
      }
      hn::StoreU(dw, d, a.grad_weight + p * kPanel + column);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard for each target
