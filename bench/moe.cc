#include "moe.h"

#include <algorithm>
#include <chrono>

#include "bench/median.h"
#include "gatewright/base/parallel.h"
#include "gatewright/base/random.h"
#include "gatewright/experts/ffn_function.h"
#include "gatewright/kernels/cpu/peak.h"

namespace gatewright::bench {
namespace {

Tensor normals(at::IntArrayRef shape, double scale, RandomStream& random) {
  Tensor result = at::empty(shape, at::kFloat);
  float* values = result.data_ptr<float>();
  for (int64_t i = 0; i < result.numel(); ++i) values[i] = random.normal() * static_cast<float>(scale);
  return result;
}

constexpr int kWarmUp = 3;  // rounds until freed memory is found again in every size

/// Inputs that all contestants share, and each one's parameters.
struct Setting {
  MoeShape shape;
  Tensor hidden, direction;      // [T, H]
  Tensor choice, weight;         // [T, K]
  Assignment assignment;         // the same choice, sorted by expert
  FfnTensors stacked;            // ours
  std::vector<FfnTensors> each;  // the loop's
  Tensor dense_rows;             // [T K, H]
  FfnTensors dense;
};

Assignment sort_by_expert(const Tensor& choice, const Tensor& weight, int64_t experts) {
  const int64_t k = choice.size(1);
  const Tensor flat = choice.reshape({-1});
  const auto [sorted, order] = flat.sort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
  const Tensor bounds = at::searchsorted(sorted, at::arange(experts + 1, at::kLong));
  return {.expert_begin = bounds,
          .token = order.div(k, "floor"),
          .weight = weight.reshape({-1}).index_select(0, order),
          .num_tokens = choice.size(0)};
}

Setting make_setting(const MoeShape& shape) {
  RandomStream random(1, "bench moe");
  Setting s;
  s.shape = shape;
  s.hidden = normals({shape.tokens, shape.hidden}, 1, random);
  s.direction = normals({shape.tokens, shape.hidden}, 1, random);
  const auto [top, ids] = normals({shape.tokens, shape.experts}, 1, random).softmax(-1).topk(shape.top_k, -1);
  s.choice = ids;
  s.weight = top;
  s.assignment = sort_by_expert(ids, top.clone(), shape.experts);
  // One expert's numbers serve all: speed does not depend on them, and drawing 10^8 normals takes longer.
  const Tensor in = normals({shape.width, shape.hidden}, 0.02, random);
  const Tensor out = normals({shape.hidden, shape.width}, 0.02, random);
  s.stacked = {.gate = in.expand({shape.experts, -1, -1}).clone(at::MemoryFormat::Contiguous),
               .up = in.expand({shape.experts, -1, -1}).clone(at::MemoryFormat::Contiguous),
               .down = out.expand({shape.experts, -1, -1}).clone(at::MemoryFormat::Contiguous)};
  for (int64_t e = 0; e < shape.experts; ++e)
    s.each.push_back({.gate = in.clone(), .up = in.clone(), .down = out.clone()});
  s.dense = {.gate = in.clone(), .up = in.clone(), .down = out.clone()};
  s.dense_rows = normals({shape.tokens * shape.top_k, shape.hidden}, 1, random);
  return s;
}

std::vector<Tensor> leaves(const Setting& s) {
  std::vector<Tensor> all = {s.hidden,       s.weight,     s.assignment.weight,
                             s.stacked.gate, s.stacked.up, s.stacked.down};
  for (const FfnTensors& f : s.each) all.insert(all.end(), {f.gate, f.up, f.down});
  return all;
}

Tensor ours(const Setting& s) { return expert_ffn(s.hidden, s.assignment, s.stacked, Activation::swiglu); }

/// As the models in eager frameworks have it.
Tensor loop(const Setting& s) {
  Tensor out = at::zeros_like(s.hidden);
  for (int64_t e = 0; e < s.shape.experts; ++e) {
    const FfnTensors& f = s.each[static_cast<size_t>(e)];
    const Tensor where = (s.choice == e).nonzero();
    const Tensor token = where.select(1, 0), place = where.select(1, 1);
    const Tensor x = s.hidden.index({token});
    const Tensor h = at::silu(at::mm(x, f.gate.t())) * at::mm(x, f.up.t());
    const Tensor y = at::mm(h, f.down.t()) * s.weight.index({token, place}).unsqueeze(1);
    out.index_add_(0, token, y);
  }
  return out;
}

/// The products alone, on as many rows as there are pairs and with their results thrown away.
void dense(const Setting& s) {
  const Tensor& x = s.dense_rows;
  const Tensor h = at::mm(x, s.dense.gate.t());
  at::mm(x, s.dense.up.t());
  const Tensor y = at::mm(h, s.dense.down.t());
  if (!s.shape.backward) return;
  at::mm(y.t(), h);
  const Tensor grad_h = at::mm(y, s.dense.down);
  for (const Tensor& w : {s.dense.gate, s.dense.up}) {
    at::mm(grad_h.t(), x);
    at::mm(grad_h, w);
  }
}

/// Of the products.
double operations_of(const MoeShape& shape) {
  return static_cast<double>(shape.tokens * shape.top_k) *
         static_cast<double>(6 * shape.hidden * shape.width) * (shape.backward ? 3 : 1);
}

template <typename Body>
double seconds(const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Forward, and backward when asked; gradients are dropped outside the time, as an optimiser does.
template <typename Forward>
double seconds_of(const Setting& s, const Forward& forward) {
  const at::AutoGradMode mode(s.shape.backward);
  const double time = seconds([&] {
    const Tensor out = forward(s);
    if (s.shape.backward) out.backward(s.direction);
  });
  for (Tensor& leaf : leaves(s)) leaf.mutable_grad() = Tensor();
  return time;
}

}  // namespace

std::vector<MoeShape> moe_shapes(bool quick) {
  std::vector<MoeShape> shapes;
  for (const int64_t tokens : {512, 4096}) {
    for (const int64_t hidden : {512, 1024}) {
      if (quick && (tokens > 512 || hidden > 512)) continue;
      for (const bool backward : {false, true}) {
        shapes.push_back({tokens, hidden, 8, 2 * hidden, 2, backward});
        shapes.push_back({tokens, hidden, 64, hidden / 2, 2, backward});
        shapes.push_back({tokens, hidden, 64, hidden / 2, 8, backward});
      }
    }
  }
  return shapes;
}

MoeRow measure_moe(const MoeShape& shape, int rounds) {
  const Setting s = make_setting(shape);
  for (Tensor& leaf : leaves(s)) leaf.set_requires_grad(shape.backward);
  const double operations = operations_of(shape);
  std::vector<double> ours_rate, loop_rate, dense_rate, over_dense, over_loop;
  for (int round = -kWarmUp; round < rounds; ++round) {
    const double t_ours = seconds_of(s, ours);
    const double t_dense = seconds([&] {
      const at::NoGradGuard no_grad;
      dense(s);
    });
    const double t_loop = seconds_of(s, loop);
    if (round < 0) continue;
    ours_rate.push_back(operations / t_ours / 1e9);
    loop_rate.push_back(operations / t_loop / 1e9);
    dense_rate.push_back(operations / t_dense / 1e9);
    over_dense.push_back(t_dense / t_ours);
    over_loop.push_back(t_loop / t_ours);
  }
  return {.shape = shape,
          .threads = num_threads(),
          .ours_gflops = median(ours_rate),
          .loop_gflops = median(loop_rate),
          .dense_gflops = median(dense_rate),
          .ours_over_dense = median(over_dense),
          .ours_over_loop = median(over_loop)};
}

MachinePeak machine_peak() { return {kernels::peak_gflops(), kernels::peak_read_gigabytes()}; }

double bound_gflops(const MoeShape& shape, const MachinePeak& peak) {
  const double weights = static_cast<double>(shape.experts * 3 * shape.hidden * shape.width);
  const double bytes = weights * sizeof(float) * (shape.backward ? 3 : 1);
  return std::min(peak.gflops, operations_of(shape) / bytes * peak.read_gigabytes);
}

}  // namespace gatewright::bench
