#include "gatewright/layers/attention.h"

#include <cmath>
#include <limits>

#include "gatewright/base/error.h"
#include "gatewright/kernels/cpu/attention.h"
#include "gatewright/kernels/cpu/cached_attention.h"

namespace gatewright {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

double scale_of(const AttentionMask& mask, int64_t head_dim) {
  return mask.scale != 0 ? mask.scale : 1.0 / std::sqrt(static_cast<double>(head_dim));
}

void check_shapes(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionMask& mask) {
  require(q.dim() == 4 && k.dim() == 4 && k.sizes() == v.sizes(),
          "[attention] queries [B, S, Q, D] and keys and values [B, S, K, D] of one shape expected");
  require(k.size(0) == q.size(0) && k.size(3) == q.size(3) && k.size(2) > 0 && q.size(2) % k.size(2) == 0,
          "[attention] {} query heads of dimension {} do not fit {} key-value heads of dimension {}",
          q.size(2), q.size(3), k.size(2), k.size(3));
  require(!mask.first_key.defined() || (mask.first_key.dim() == 2 && mask.first_key.size(0) == q.size(0) &&
                                        mask.first_key.size(1) == q.size(1)),
          "[attention] first_key must be [{}, {}]", q.size(0), q.size(1));
  require(!mask.sinks.defined() || (mask.sinks.dim() == 1 && mask.sinks.size(0) == q.size(2)),
          "[attention] a sink for each of {} heads is expected", q.size(2));
}

/// Softmax of scores [B, Q, N, keys], where each head's sink takes its share when there are sinks.
Tensor probabilities(const Tensor& scores, const Tensor& sinks) {
  if (!sinks.defined()) return at::softmax(scores, -1);
  std::vector<int64_t> shape = scores.sizes().vec();
  shape.back() = 1;
  const Tensor column = sinks.to(scores.scalar_type()).view({1, -1, 1, 1}).expand(shape);
  return at::softmax(at::cat({scores, column}, -1), -1).narrow(-1, 0, scores.size(-1));
}

/// bool [N, offset + N]: what the tokens of the tree see of the cache's and of each other.
Tensor seen_in_tree(const TokenTree& tree, int64_t offset, const at::Device& device) {
  const int64_t n = tree.size();
  Tensor seen = at::ones({n, offset + n}, at::kBool);
  auto cells = seen.accessor<bool, 2>();
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) cells[i][offset + j] = (tree.sees[static_cast<size_t>(i)] >> j & 1) != 0;
  }
  return seen.to(device);
}

/// Queries at positions offset .. offset + N - 1 over all keys, with the square of scores.
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionMask& mask, int64_t offset) {
  const int64_t group = q.size(2) / k.size(2), n = q.size(1), keys = k.size(1);
  const auto heads_first = [](const Tensor& x) { return x.transpose(1, 2); };
  const Tensor wide_k = heads_first(k).repeat_interleave(group, 1);
  const Tensor wide_v = heads_first(v).repeat_interleave(group, 1);
  Tensor scores = at::matmul(heads_first(q), wide_k.transpose(2, 3));
  if (scores.scalar_type() != at::kDouble) scores = scores.to(at::kFloat);
  const auto integers = q.options().dtype(at::kLong).requires_grad(false);
  Tensor query = at::arange(offset, offset + n, integers), key = at::arange(keys, integers), seen;
  if (mask.tree) {
    seen = seen_in_tree(*mask.tree, offset, q.device());
    query = offset + at::tensor(mask.tree->depth, integers);
    key = at::cat({key.narrow(0, 0, offset), query});
  } else {
    seen = key.le(query.unsqueeze(1));
  }
  if (mask.window > 0) seen = seen.logical_and(key.gt(query.unsqueeze(1) - mask.window));
  seen = seen.unsqueeze(0).unsqueeze(0);
  if (mask.first_key.defined()) {
    const Tensor first = mask.first_key.to(q.device(), at::kLong).unsqueeze(1).unsqueeze(3);
    seen = seen.logical_and(key.ge(first));
  }
  scores = (scores * scale_of(mask, q.size(3)))
               .masked_fill(seen.logical_not(), -std::numeric_limits<double>::infinity());
  return heads_first(at::matmul(probabilities(scores, mask.sinks).to(v.scalar_type()), wide_v));
}

struct CpuAttention : torch::autograd::Function<CpuAttention> {
  static kernels::AttentionSizes sizes(const Tensor& q, const Tensor& k, const Tensor& first_key,
                                       int64_t window, double scale) {
    return {.batch = q.size(0),
            .length = q.size(1),
            .heads = q.size(2),
            .kv_heads = k.size(2),
            .head_dim = q.size(3),
            .window = window,
            .scale = static_cast<float>(scale),
            .first_key = first_key.numel() > 0 ? first_key.data_ptr<int32_t>() : nullptr};
  }

  static Tensor forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& first_key, int64_t window, double scale) {
    const Tensor out = at::empty_like(q);
    const Tensor log_sum = at::empty({q.size(0), q.size(2), q.size(1)}, q.options());
    kernels::attention_forward(sizes(q, k, first_key, window, scale), q.data_ptr<float>(),
                               k.data_ptr<float>(), v.data_ptr<float>(), out.data_ptr<float>(),
                               log_sum.data_ptr<float>());
    context->save_for_backward({q, k, v, first_key, out, log_sum});
    context->saved_data["window"] = window;
    context->saved_data["scale"] = scale;
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list in = context->get_saved_variables();
    const Tensor &q = in[0], &k = in[1], &v = in[2];
    const Tensor grad_out = grads[0].contiguous();
    const Tensor grad_q = at::empty_like(q), grad_k = at::empty_like(k), grad_v = at::empty_like(v);
    kernels::attention_backward(
        sizes(q, k, in[3], context->saved_data["window"].toInt(), context->saved_data["scale"].toDouble()),
        q.data_ptr<float>(), k.data_ptr<float>(), v.data_ptr<float>(), in[4].data_ptr<float>(),
        in[5].data_ptr<float>(), grad_out.data_ptr<float>(), grad_q.data_ptr<float>(),
        grad_k.data_ptr<float>(), grad_v.data_ptr<float>());
    return {grad_q, grad_k, grad_v, Tensor(), Tensor(), Tensor()};
  }
};

/// With more, products of matrices are faster.
constexpr int64_t kFewQueries = 8;

bool cache_has_kernel(const Tensor& q, const KeyValueCache& cache) {
  return q.size(1) <= kFewQueries && q.is_cpu() && q.scalar_type() == at::kFloat &&
         cache.keys.scalar_type() == at::kFloat && cache.values.scalar_type() == at::kFloat;
}

/// The last q.size(1) tokens of the cache attend to all of it.
Tensor attend_to_cache(const Tensor& q, const KeyValueCache& cache, const AttentionMask& mask) {
  const Tensor queries = q.contiguous(), out = at::empty_like(queries);
  const Tensor first = mask.first_key.defined() ? mask.first_key.to(at::kInt).contiguous() : Tensor(),
               sinks = mask.sinks.defined() ? mask.sinks.to(at::kFloat).contiguous() : Tensor();
  kernels::cached_attention({.batch = q.size(0),
                             .queries = q.size(1),
                             .heads = q.size(2),
                             .kv_heads = cache.keys.size(2),
                             .head_dim = q.size(3),
                             .capacity = cache.keys.size(1),
                             .before = cache.length - q.size(1),
                             .window = mask.window,
                             .scale = static_cast<float>(scale_of(mask, q.size(3))),
                             .first_key = first.defined() ? first.data_ptr<int32_t>() : nullptr,
                             .sinks = sinks.defined() ? sinks.data_ptr<float>() : nullptr,
                             .depth = mask.tree ? mask.tree->depth.data() : nullptr,
                             .sees = mask.tree ? mask.tree->sees.data() : nullptr},
                            queries.data_ptr<float>(), cache.keys.data_ptr<float>(),
                            cache.values.data_ptr<float>(), out.data_ptr<float>());
  return out;
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionMask& mask) {
  check_shapes(q, k, v, mask);
  require(q.size(1) == k.size(1), "[attention] {} queries and {} keys: the same tokens are expected",
          q.size(1), k.size(1));
  const bool kernel = !mask.sinks.defined() && q.is_cpu() && q.scalar_type() == at::kFloat &&
                      k.scalar_type() == at::kFloat && v.scalar_type() == at::kFloat;
  if (!kernel) return attend(q, k, v, mask, 0);
  const Tensor first_key = mask.first_key.defined() ? mask.first_key.to(at::kInt).contiguous()
                                                    : at::empty({0}, at::dtype(at::kInt));
  return CpuAttention::apply(q.contiguous(), k.contiguous(), v.contiguous(), first_key, mask.window,
                             scale_of(mask, q.size(3)));
}

Tensor attention_by_tensor_operations(const Tensor& q, const Tensor& k, const Tensor& v,
                                      const AttentionMask& mask) {
  check_shapes(q, k, v, mask);
  return attend(q, k, v, mask, 0);
}

void append(KeyValueCache& cache, const Tensor& k, const Tensor& v, const Tensor& selected) {
  const at::NoGradGuard no_grad;
  const int64_t added = k.size(1), before = cache.length,
                capacity = cache.keys.defined() ? cache.keys.size(1) : 0;
  const int64_t wanted =
      before + added > capacity ? std::max<int64_t>({before + added, 2 * capacity, 64}) : capacity;
  const auto put = [&](Tensor& stored, const Tensor& more) {
    if (wanted > capacity) {
      std::vector<int64_t> shape = more.sizes().vec();
      shape[1] = wanted;
      Tensor grown = at::empty(shape, more.options().requires_grad(false));
      if (before > 0) grown.narrow(1, 0, before).copy_(stored.narrow(1, 0, before));
      stored = std::move(grown);
    }
    stored.narrow(1, before, added).copy_(more);
  };
  put(cache.keys, k);
  put(cache.values, v);
  if (selected.defined()) put(cache.selected, selected);
  cache.length = before + added;
}

void keep_tokens(KeyValueCache& cache, int64_t first, std::span<const int64_t> kept) {
  const at::NoGradGuard no_grad;
  for (int64_t i = 0; i < std::ssize(kept); ++i) {
    const int64_t from = first + kept[static_cast<size_t>(i)], to = first + i;
    for (const Tensor* stored : {&cache.keys, &cache.values, &cache.selected}) {
      if (stored->defined() && from != to) stored->select(1, to).copy_(stored->select(1, from));
    }
  }
  cache.length = first + std::ssize(kept);
}

Tensor attention_with_cache(const Tensor& q, const Tensor& k, const Tensor& v, KeyValueCache& cache,
                            const AttentionMask& mask) {
  check_shapes(q, k, v, mask);
  const at::NoGradGuard no_grad;
  const int64_t before = cache.length;
  require(!mask.tree || mask.tree->size() == q.size(1), "[attention] a tree of {} tokens for {} queries",
          mask.tree ? mask.tree->size() : 0, q.size(1));
  append(cache, k, v);
  if (before == 0 && !mask.tree) return attention(q, k, v, mask);
  if (cache_has_kernel(q, cache)) return attend_to_cache(q, cache, mask);
  return attend(q, cache.keys.narrow(1, 0, cache.length), cache.values.narrow(1, 0, cache.length), mask,
                before);
}

}  // namespace gatewright
