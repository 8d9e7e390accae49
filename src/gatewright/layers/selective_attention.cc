#include "gatewright/layers/selective_attention.h"

#include <cmath>
#include <limits>

#include "gatewright/base/error.h"
#include "gatewright/layers/linear.h"
#include "gatewright/layers/rms_norm.h"

namespace gatewright {
namespace {

/// Where each pair of token and head lies: N pairs, by head, ascending in the token within a head.
struct Pairs {
  int64_t rows, length, heads;  // B, S, H
  Tensor row, place, head;      // int64 [N] of the pair's token in the batch, and its head

  Pairs(const Tensor& x, const Assignment& lists)
      : rows(x.size(0)),
        length(x.size(1)),
        heads(lists.num_experts()),
        row(at::floor_divide(lists.token, std::max<int64_t>(1, length))),
        place(lists.token - row * length),
        head(expert_of_pairs(lists)) {}

  /// bool [B, S, H]: whether a head serves a token.
  Tensor mask() const {
    const Tensor cell = (row * length + place) * heads + head;
    return at::zeros({rows * length * heads}, cell.options().dtype(at::kBool))
        .index_fill(0, cell, true)
        .view({rows, length, heads});
  }
};

/// Queries, keys and values of the pairs, [N, D] each.
struct Projected {
  Tensor query, key, value;
};

void check(const Tensor& x, const Assignment& lists, const HeadWeights& w) {
  const int64_t heads = lists.num_experts();
  require(x.dim() == 3 && lists.num_tokens == x.size(0) * x.size(1),
          "[selective_attention] x [B, S, d] with {} tokens was expected", lists.num_tokens);
  require(w.query.dim() == 2 && w.query.sizes() == w.key.sizes() && w.query.sizes() == w.value.sizes() &&
              w.query.size(1) == x.size(2),
          "[selective_attention] queries, keys and values of one shape [H D, {}] were expected", x.size(2));
  if (heads < 1 || w.query.size(0) % heads != 0)
    fail_usage("[selective_attention] a width of {} cannot be cut into {} equal heads", w.query.size(0),
               heads);
  require(w.output.dim() == 2 && w.output.size(0) == x.size(2) && w.output.size(1) == w.query.size(0),
          "[selective_attention] an output map [{}, {}] was expected", x.size(2), w.query.size(0));
}

/// body(head, first pair, number of pairs) for each head that serves a token.
template <typename Body>
void for_each_head(const Assignment& lists, const Body& body) {
  const Tensor plain = lists.expert_begin.to(at::kCPU);
  const int64_t* begin = plain.data_ptr<int64_t>();
  for (int64_t h = 0; h < lists.num_experts(); ++h) {
    if (begin[h + 1] > begin[h]) body(h, begin[h], begin[h + 1] - begin[h]);
  }
}

/// One product for each head with its tokens.
Projected project(const Tensor& x, const Assignment& lists, const HeadWeights& w) {
  const int64_t dim = w.query.size(0) / lists.num_experts();
  const Tensor tokens = x.reshape({-1, x.size(2)}).index_select(0, lists.token);
  std::vector<Tensor> made;
  for_each_head(lists, [&](int64_t h, int64_t first, int64_t count) {
    const auto own = [&](const Tensor& weight) { return weight.narrow(0, h * dim, dim); };
    made.push_back(
        linear_layer(tokens.narrow(0, first, count), at::cat({own(w.query), own(w.key), own(w.value)})));
  });
  const Tensor all = made.empty() ? at::zeros({0, 3 * dim}, x.options()) : at::cat(made);
  Projected p{all.narrow(1, 0, dim), all.narrow(1, dim, dim), all.narrow(1, 2 * dim, dim)};
  if (w.query_norm.defined()) p.query = rms_norm(p.query, w.query_norm, w.norm_epsilon);
  if (w.key_norm.defined()) p.key = rms_norm(p.key, w.key_norm, w.norm_epsilon);
  return p;
}

/// values [N, D] of the pairs -> the sum over each token's heads, [B, S, d].
Tensor joined(const Tensor& values, const Tensor& x, const Assignment& lists, const HeadWeights& w) {
  const int64_t dim = w.query.size(0) / lists.num_experts();
  Tensor sum = at::zeros({lists.num_tokens, x.size(2)}, x.options().requires_grad(false));
  for_each_head(lists, [&](int64_t h, int64_t first, int64_t count) {
    const Tensor y = linear_layer(values.narrow(0, first, count), w.output.narrow(1, h * dim, dim));
    const Tensor weight = lists.weight.narrow(0, first, count).to(y.scalar_type()).unsqueeze(1);
    sum = sum.index_add(0, lists.token.narrow(0, first, count), (y * weight).to(sum.scalar_type()));
  });
  if (w.output_bias.defined()) {
    const Tensor served =
        at::zeros({lists.num_tokens}, x.options().requires_grad(false)).index_fill(0, lists.token, 1);
    sum = sum + served.unsqueeze(1) * w.output_bias.to(sum.scalar_type());
  }
  return sum.view(x.sizes());
}

/// Tokens that a head serves among those before each, by head and row, over what lies in the cache and the
/// new tokens: int64 [B, L + 1, H].
Tensor served_before(const Tensor& mask) {
  const Tensor counts = mask.to(at::kLong).cumsum(1);
  return at::cat({at::zeros({mask.size(0), 1, mask.size(2)}, counts.options()), counts}, 1);
}

/// The first index of the row that each pair may see, int64 [N].
Tensor first_seen(const Pairs& pairs, const SelectiveOptions& o, int64_t cached, bool with_window) {
  Tensor first = at::zeros_like(pairs.place);
  if (o.first_key.defined())
    first = o.first_key.to(at::kLong).reshape({-1}).index_select(0, pairs.row * pairs.length + pairs.place);
  if (with_window && o.window > 0) first = at::maximum(first, pairs.place + (cached + 1 - o.window));
  return first;
}

/// before[b, index, h] of each pair.
Tensor count_at(const Tensor& before, const Pairs& pairs, const Tensor& index) {
  const Tensor cell = (pairs.row * before.size(1) + index) * before.size(2) + pairs.head;
  return before.reshape({-1}).index_select(0, cell);
}

/// x [N, D] turned by the positions [N].
Tensor turned(const Tensor& x, const Tensor& positions, const SelectiveOptions& o) {
  if (!o.rotary || x.size(0) == 0) return x;
  return rotary(x.view({1, x.size(0), 1, x.size(1)}), *o.rotary, positions.unsqueeze(0)).view(x.sizes());
}

void turn(Projected& p, const Pairs& pairs, const Tensor& before, const SelectiveOptions& o, int64_t cached) {
  const Tensor index = pairs.place + cached, document = first_seen(pairs, o, cached, /*with_window=*/false);
  const Tensor positions = o.subsequence_positions
                               ? count_at(before, pairs, index) - count_at(before, pairs, document)
                               : index - document;
  p.query = turned(p.query.contiguous(), positions, o);
  p.key = turned(p.key.contiguous(), positions, o);
}

/// Attention of every list by itself. Lists are rows of one batch, filled up at their ends, which the causal
/// mask hides from every token of the list.
Tensor attend_in_lists(const Projected& p, const Pairs& pairs, const Tensor& before,
                       const SelectiveOptions& o) {
  const int64_t count = p.query.size(0), dim = p.query.size(1), lists = pairs.heads * pairs.rows;
  if (count == 0) return p.value;
  const Tensor place = count_at(before, pairs, pairs.place);
  const int64_t longest = place.max().item<int64_t>() + 1;
  const Tensor slot = (pairs.head * pairs.rows + pairs.row) * longest + place;
  const auto padded = [&](const Tensor& values) {
    return at::zeros({lists * longest, dim}, values.options().requires_grad(false))
        .index_copy(0, slot, values)
        .view({lists, longest, 1, dim});
  };
  AttentionMask mask;
  if (o.first_key.defined() || o.window > 0) {
    const Tensor first = count_at(before, pairs, first_seen(pairs, o, 0, /*with_window=*/true));
    mask.first_key = at::zeros({lists * longest}, first.options().dtype(at::kInt))
                         .index_copy(0, slot, first.to(at::kInt))
                         .view({lists, longest});
  }
  return attention(padded(p.query), padded(p.key), padded(p.value), mask)
      .reshape({lists * longest, dim})
      .index_select(0, slot);
}

/// values [N, D] of the pairs as [B, S, H, D], zero where a head does not serve a token.
Tensor spread(const Tensor& values, const Pairs& pairs) {
  const Tensor cell = (pairs.row * pairs.length + pairs.place) * pairs.heads + pairs.head;
  return at::zeros({pairs.rows * pairs.length * pairs.heads, values.size(1)}, values.options())
      .index_copy(0, cell, values)
      .view({pairs.rows, pairs.length, pairs.heads, values.size(1)});
}

/// The pairs' queries over all that lies in the cache: [N, D].
Tensor attend_over_cache(const Projected& p, const Pairs& pairs, const KeyValueCache& cache,
                         const SelectiveOptions& o, int64_t cached) {
  const auto heads_first = [](const Tensor& t) { return t.transpose(1, 2); };
  const auto stored = [&](const Tensor& t) { return heads_first(t.narrow(1, 0, cache.length)); };
  const int64_t dim = p.query.size(1);
  Tensor scores = at::matmul(heads_first(spread(p.query, pairs)), stored(cache.keys).transpose(2, 3));
  if (scores.scalar_type() != at::kDouble) scores = scores.to(at::kFloat);
  const Tensor key = at::arange(cache.length, pairs.place.options());
  const Tensor query = at::arange(cached, cached + pairs.length, key.options()).unsqueeze(1);
  Tensor seen = key.le(query);
  if (o.window > 0) seen = seen.logical_and(key.gt(query - o.window));
  seen = seen.logical_and(stored(cache.selected).unsqueeze(2));  // [B, H, S, L]
  if (o.first_key.defined())
    seen = seen.logical_and(key.ge(o.first_key.to(at::kLong).unsqueeze(1).unsqueeze(3)));
  // Rows of heads that do not serve the token are not numbers, and nobody reads them.
  scores = (scores / std::sqrt(static_cast<double>(dim)))
               .masked_fill(seen.logical_not(), -std::numeric_limits<double>::infinity());
  const Tensor mixed =
      heads_first(at::matmul(at::softmax(scores, -1).to(p.value.scalar_type()), stored(cache.values)));
  const Tensor cell = (pairs.row * pairs.length + pairs.place) * pairs.heads + pairs.head;
  return mixed.reshape({-1, dim}).index_select(0, cell);
}

}  // namespace

Tensor selective_attention(const Tensor& x, const Assignment& lists, const HeadWeights& weights,
                           const SelectiveOptions& options) {
  check(x, lists, weights);
  const Pairs pairs(x, lists);
  const Tensor before = served_before(pairs.mask());
  Projected p = project(x, lists, weights);
  turn(p, pairs, before, options, 0);
  return joined(attend_in_lists(p, pairs, before, options), x, lists, weights);
}

Tensor selective_attention_with_cache(const Tensor& x, const Assignment& lists, const HeadWeights& weights,
                                      KeyValueCache& cache, const SelectiveOptions& options) {
  check(x, lists, weights);
  const at::NoGradGuard no_grad;
  const Pairs pairs(x, lists);
  const int64_t cached = cache.length;
  require(cached == 0 || cache.selected.defined(),
          "[selective_attention] the cache was filled by another kind of attention");
  const Tensor mask = pairs.mask();
  const Tensor before =
      served_before(cached > 0 ? at::cat({cache.selected.narrow(1, 0, cached), mask}, 1) : mask);
  Projected p = project(x, lists, weights);
  turn(p, pairs, before, options, cached);
  append(cache, spread(p.key, pairs), spread(p.value, pairs), mask);
  const Tensor mixed = cached > 0 ? attend_over_cache(p, pairs, cache, options, cached)
                                  : attend_in_lists(p, pairs, before, options);
  return joined(mixed, x, lists, weights);
}

AttentionCost selective_cost(const std::vector<int64_t>& list_lengths, int64_t hidden_size,
                             int64_t head_dim) {
  AttentionCost cost;
  const auto hidden = static_cast<double>(hidden_size), dim = static_cast<double>(head_dim);
  for (const int64_t length : list_lengths) {
    const auto n = static_cast<double>(length);
    cost.projections += 4 * n * hidden * dim;
    cost.scores += n * n * dim;
  }
  return cost;
}

}  // namespace gatewright
