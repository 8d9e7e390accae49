// The forward pass of a published decoder, written from the papers in plain double loops: an oracle for ours.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <string>
#include <vector>

#include "tests/models/families/random_model.h"

namespace gatewright {

using Row = std::vector<double>;

struct ReferenceRouting {
  std::vector<std::vector<int64_t>> experts;  // of each token, ascending
  std::vector<double> margin;                 // least distance to another choice
};

class ReferenceForward {
 public:
  explicit ReferenceForward(const RandomModel& model) : m_(model), a_(model.architecture()) {}

  /// Logits of each token.
  std::vector<Row> run(const std::vector<int64_t>& tokens) {
    std::vector<Row> x;
    for (const int64_t t : tokens) x.push_back(row("model.embed_tokens.weight", t, a_.hidden_size));
    routing.clear();
    for (int64_t l = 0; l < a_.num_layers(); ++l) {
      prefix_ = "model.layers." + std::to_string(l) + ".";
      const ArchitectureLayer& layer = a_.layers[static_cast<size_t>(l)];
      add(x, a_.latent ? latent_attention(normed(x, "input_layernorm.weight"), layer.window)
                       : attention(normed(x, "input_layernorm.weight"), layer.window));
      add(x, feed_forward(normed(x, "post_attention_layernorm.weight"), layer));
    }
    std::vector<Row> logits;
    for (const Row& r : x) {
      const Row h = norm(r, weights("model.norm.weight"));
      logits.push_back(
          product(h, a_.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight", a_.vocab_size));
    }
    return logits;
  }

  std::vector<ReferenceRouting> routing;  // of each routed layer

 private:
  Row weights(const std::string& name) const { return {m_.values(name).begin(), m_.values(name).end()}; }
  Row row(const std::string& name, int64_t index, int64_t columns) const {
    const auto begin = m_.values(name).begin() + index * columns;
    return {begin, begin + columns};
  }
  /// W x (+ bias) with the rows of W from `first` on.
  Row product(const Row& x, const std::string& name, int64_t out, const std::string& bias = "",
              int64_t first = 0) const {
    const std::vector<float>& w = m_.values(name);
    Row y(static_cast<size_t>(out));
    for (int64_t o = 0; o < out; ++o) {
      for (size_t i = 0; i < x.size(); ++i)
        y[static_cast<size_t>(o)] += w[static_cast<size_t>(first + o) * x.size() + i] * x[i];
      if (!bias.empty()) y[static_cast<size_t>(o)] += m_.values(bias)[static_cast<size_t>(first + o)];
    }
    return y;
  }
  Row norm(const Row& x, const Row& weight) const {
    const double mean =
        std::inner_product(x.begin(), x.end(), x.begin(), 0.0) / static_cast<double>(x.size());
    Row y = x;
    for (size_t i = 0; i < y.size(); ++i) y[i] *= weight[i] / std::sqrt(mean + a_.rms_norm_eps);
    return y;
  }
  std::vector<Row> normed(const std::vector<Row>& x, const std::string& name) const {
    std::vector<Row> y;
    for (const Row& r : x) y.push_back(norm(r, weights(prefix_ + name)));
    return y;
  }
  static void add(std::vector<Row>& x, const std::vector<Row>& delta) {
    for (size_t t = 0; t < x.size(); ++t)
      for (size_t i = 0; i < x[t].size(); ++i) x[t][i] += delta[t][i];
  }

  // --- position ---

  /// Frequency of each pair and the factor of cosine and sine, from the published formulas.
  std::pair<Row, double> frequencies(size_t width) const {
    const RotarySpec& r = a_.rotary;
    const double L = static_cast<double>(r.original_positions), pi = std::numbers::pi,
                 d = static_cast<double>(width);
    Row f;
    for (size_t i = 0; i < width / 2; ++i) f.push_back(std::pow(r.theta, -2.0 * static_cast<double>(i) / d));
    if (r.scaling == RotaryScaling::kLinear)
      for (double& x : f) x /= r.factor;
    if (r.scaling == RotaryScaling::kLlama3) {
      for (double& x : f) {
        const double w = 2 * pi / x;
        const double s =
            (L / w - r.low_frequency_factor) / (r.high_frequency_factor - r.low_frequency_factor);
        x = w < L / r.high_frequency_factor  ? x
            : w > L / r.low_frequency_factor ? x / r.factor
                                             : (1 - s) * x / r.factor + s * x;
      }
    }
    if (r.scaling == RotaryScaling::kLongRope)  // texts of the tests are longer than the original context
      for (size_t i = 0; i < f.size(); ++i) f[i] /= r.long_factors[i];
    double magnitude = 1;
    if (r.scaling == RotaryScaling::kLongRope) magnitude = std::sqrt(1 + std::log(r.factor) / std::log(L));
    if (r.scaling == RotaryScaling::kYarn) {
      const auto c = [&](double turns) {
        return d * std::log(L / (2 * pi * turns)) / (2 * std::log(r.theta));
      };
      double lo = c(32), hi = c(1);
      if (r.truncate) lo = std::floor(lo), hi = std::ceil(hi);
      lo = std::max(lo, 0.0), hi = std::min(hi, d - 1);
      for (size_t i = 0; i < f.size(); ++i) {
        const double ramp =
            std::min(1.0, std::max(0.0, (static_cast<double>(i) - lo) / std::max(hi - lo, 0.001)));
        f[i] = f[i] / r.factor * ramp + f[i] * (1 - ramp);
      }
      magnitude = r.mscale > 0 ? (0.1 * r.mscale * std::log(r.factor) + 1) /
                                     (0.1 * r.mscale_all_dim * std::log(r.factor) + 1)
                               : 0.1 * std::log(r.factor) + 1;
    }
    return {f, magnitude};
  }
  void turn(Row& x, size_t begin, size_t width, size_t position, bool interleaved) const {
    const auto [f, magnitude] = frequencies(width);
    for (size_t i = 0; i < width / 2; ++i) {
      const double angle = static_cast<double>(position) * f[i];
      double& p = x[begin + (interleaved ? 2 * i : i)];
      double& q = x[begin + (interleaved ? 2 * i + 1 : i + width / 2)];
      const double c = std::cos(angle) * magnitude, s = std::sin(angle) * magnitude, p0 = p;
      p = p0 * c - q * s;
      q = q * c + p0 * s;
    }
  }

  // --- attention ---

  /// One head's output at a position.
  static Row attend(const Row& q, const std::vector<Row>& keys, const std::vector<Row>& values,
                    size_t position, int64_t window, double scale, const double* sink) {
    const size_t first = window > 0 && position + 1 > static_cast<size_t>(window)
                             ? position + 1 - static_cast<size_t>(window)
                             : 0;
    Row score;
    for (size_t k = first; k <= position; ++k)
      score.push_back(scale * std::inner_product(q.begin(), q.end(), keys[k].begin(), 0.0));
    double sum = sink ? std::exp(*sink) : 0;
    for (double& s : score) sum += s = std::exp(s);
    Row out(values[0].size());
    for (size_t k = first; k <= position; ++k)
      for (size_t i = 0; i < out.size(); ++i) out[i] += score[k - first] / sum * values[k][i];
    return out;
  }

  std::vector<Row> attention(const std::vector<Row>& x, int64_t window) const {
    const auto head = static_cast<size_t>(a_.head_dim), heads = static_cast<size_t>(a_.num_heads),
               kv = static_cast<size_t>(a_.num_kv_heads);
    const std::string p = prefix_ + "self_attn.";
    // [head][token]
    std::vector<std::vector<Row>> q(heads), k(kv), v(kv);
    for (size_t t = 0; t < x.size(); ++t) {
      const auto project = [&](const std::string& name, size_t count) {
        const std::string bias = a_.query_key_value_bias ? p + name + "_proj.bias" : "";
        Row y = product(x[t], p + name + "_proj.weight", static_cast<int64_t>(count * head), bias);
        if (name != "v" && a_.query_key_norm == QueryKeyNorm::kProjection)
          y = norm(y, weights(p + name + "_norm.weight"));
        if (a_.clip_qkv > 0)
          for (double& z : y) z = std::clamp(z, -a_.clip_qkv, a_.clip_qkv);
        return y;
      };
      const auto split = [&](const Row& all, const std::string& name, std::vector<std::vector<Row>>& into) {
        for (size_t h = 0; h < into.size(); ++h) {
          Row one(all.begin() + static_cast<std::ptrdiff_t>(h * head),
                  all.begin() + static_cast<std::ptrdiff_t>((h + 1) * head));
          if (name != "v" && a_.query_key_norm == QueryKeyNorm::kHead)
            one = norm(one, weights(p + name + "_norm.weight"));
          if (name != "v") turn(one, 0, head, t, false);
          into[h].push_back(one);
        }
      };
      split(project("q", heads), "q", q);
      split(project("k", kv), "k", k);
      split(project("v", kv), "v", v);
    }
    std::vector<Row> out;
    for (size_t t = 0; t < x.size(); ++t) {
      Row mixed;
      for (size_t h = 0; h < heads; ++h) {
        const double sink = a_.attention_sinks ? m_.values(p + "sinks")[h] : 0;
        const size_t group = h / (heads / kv);
        const Row one =
            attend(q[h][t], k[group], v[group], t, window, 1 / std::sqrt(static_cast<double>(head)),
                   a_.attention_sinks ? &sink : nullptr);
        mixed.insert(mixed.end(), one.begin(), one.end());
      }
      out.push_back(
          product(mixed, p + "o_proj.weight", a_.hidden_size, a_.output_bias ? p + "o_proj.bias" : ""));
    }
    return out;
  }

  std::vector<Row> latent_attention(const std::vector<Row>& x, int64_t window) const {
    const LatentAttentionSpec& l = *a_.latent;
    const std::string p = prefix_ + "self_attn.";
    const int64_t head = l.nope_dim + l.rope_dim, pair = l.nope_dim + l.value_dim;
    std::vector<std::vector<Row>> q(static_cast<size_t>(a_.num_heads)), k = q, v = q;
    for (size_t t = 0; t < x.size(); ++t) {
      const Row inner = l.query_rank > 0 ? norm(product(x[t], p + "q_a_proj.weight", l.query_rank),
                                                weights(p + "q_a_layernorm.weight"))
                                         : x[t];
      const std::string query = p + (l.query_rank > 0 ? "q_b_proj.weight" : "q_proj.weight");
      const Row small = product(x[t], p + "kv_a_proj_with_mqa.weight", l.key_value_rank + l.rope_dim);
      const Row vector =
          norm({small.begin(), small.begin() + l.key_value_rank}, weights(p + "kv_a_layernorm.weight"));
      Row position(small.begin() + l.key_value_rank, small.end());
      turn(position, 0, position.size(), t, true);
      for (int64_t h = 0; h < a_.num_heads; ++h) {
        const auto i = static_cast<size_t>(h);
        Row mine = product(inner, query, head, "", h * head);
        turn(mine, static_cast<size_t>(l.nope_dim), static_cast<size_t>(l.rope_dim), t, true);
        q[i].push_back(mine);
        Row key = product(vector, p + "kv_b_proj.weight", l.nope_dim, "", h * pair);
        key.insert(key.end(), position.begin(), position.end());
        k[i].push_back(key);
        v[i].push_back(product(vector, p + "kv_b_proj.weight", l.value_dim, "", h * pair + l.nope_dim));
      }
    }
    const RotarySpec& r = a_.rotary;
    const double m = r.mscale_all_dim > 0 ? 0.1 * r.mscale_all_dim * std::log(r.factor) + 1 : 1;
    std::vector<Row> out;
    for (size_t t = 0; t < x.size(); ++t) {
      Row mixed;
      for (size_t h = 0; h < q.size(); ++h) {
        const Row one =
            attend(q[h][t], k[h], v[h], t, window, m * m / std::sqrt(static_cast<double>(head)), nullptr);
        mixed.insert(mixed.end(), one.begin(), one.end());
      }
      out.push_back(product(mixed, p + "o_proj.weight", a_.hidden_size));
    }
    return out;
  }

  // --- feed-forward ---

  Row swiglu(const Row& x, const std::string& block, int64_t width, int64_t expert, bool biases) const {
    const auto bias = [&](const char* name) { return biases ? block + name + ".bias" : std::string(); };
    const Row g = product(x, block + "gate_proj.weight", width, bias("gate_proj"), expert * width);
    const Row u = product(x, block + "up_proj.weight", width, bias("up_proj"), expert * width);
    Row h(g.size());
    for (size_t i = 0; i < h.size(); ++i) {
      if (a_.clamped_swiglu) {
        const double gate = std::min(g[i], 7.0);
        h[i] = (std::clamp(u[i], -7.0, 7.0) + 1) * gate / (1 + std::exp(-1.702 * gate));
      } else {
        h[i] = g[i] / (1 + std::exp(-g[i])) * u[i];
      }
    }
    return product(h, block + "down_proj.weight", a_.hidden_size, bias("down_proj"), expert * a_.hidden_size);
  }

  /// Ids of the highest, and the distance of the last of them to the next.
  static std::vector<int64_t> best(const Row& score, int64_t count, double& margin) {
    std::vector<int64_t> order(score.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](int64_t a, int64_t b) {
      return score[static_cast<size_t>(a)] > score[static_cast<size_t>(b)];
    });
    if (count < std::ssize(order))
      margin = std::min(margin, score[static_cast<size_t>(order[static_cast<size_t>(count) - 1])] -
                                    score[static_cast<size_t>(order[static_cast<size_t>(count)])]);
    order.resize(static_cast<size_t>(count));
    return order;
  }

  std::vector<Row> feed_forward(const std::vector<Row>& x, const ArchitectureLayer& layer) {
    std::vector<Row> out;
    if (!layer.routed) {
      for (const Row& r : x) out.push_back(swiglu(r, prefix_ + "mlp.", layer.dense_width, 0, false));
      return out;
    }
    const RoutedSpec& s = *layer.routed;
    routing.emplace_back();
    for (const Row& r : x) {
      const Row logits = product(r, prefix_ + "mlp.gate.weight", s.num_experts,
                                 s.router_bias ? prefix_ + "mlp.gate.bias" : "");
      Row p = logits, choice;
      const double top = *std::ranges::max_element(logits);
      double sum = 0;
      for (double& y : p) sum += y = s.sigmoid ? 1 / (1 + std::exp(-y)) : std::exp(y - top);
      if (!s.sigmoid)
        for (double& y : p) y /= sum;
      choice = p;
      if (s.selection_bias)
        for (size_t e = 0; e < choice.size(); ++e)
          choice[e] += m_.values(prefix_ + "mlp.gate.e_score_correction_bias")[e];
      double margin = 1e9;
      if (s.num_groups > 1) limit_to_groups(choice, s, margin);
      std::vector<int64_t> chosen = best(choice, s.top_k, margin);
      std::ranges::sort(chosen);
      routing.back().experts.push_back(chosen);
      routing.back().margin.push_back(margin);
      double of_chosen = 0;
      for (const int64_t e : chosen)
        of_chosen +=
            s.softmax_chosen ? std::exp(logits[static_cast<size_t>(e)] - top) : p[static_cast<size_t>(e)];
      Row sum_of_experts(static_cast<size_t>(a_.hidden_size));
      for (const int64_t e : chosen) {
        const auto i = static_cast<size_t>(e);
        const double w = s.scale * (s.softmax_chosen ? std::exp(logits[i] - top) / of_chosen
                                    : s.renormalise  ? p[i] / of_chosen
                                                     : p[i]);
        const Row y = swiglu(r, prefix_ + "mlp.experts.{}.", s.width, e, s.biases);
        for (size_t c = 0; c < y.size(); ++c) sum_of_experts[c] += w * y[c];
      }
      if (s.shared_width > 0) {
        const Row y = swiglu(r, prefix_ + (s.shared_gate ? "mlp.shared_expert." : "mlp.shared_experts."),
                             s.shared_width, 0, false);
        const double g =
            s.shared_gate ? 1 / (1 + std::exp(-product(r, prefix_ + "mlp.shared_expert_gate.weight", 1)[0]))
                          : 1;
        for (size_t c = 0; c < y.size(); ++c) sum_of_experts[c] += g * y[c];
      }
      out.push_back(sum_of_experts);
    }
    return out;
  }

  static void limit_to_groups(Row& choice, const RoutedSpec& s, double& margin) {
    const int64_t size = s.num_experts / s.num_groups;
    Row of_groups;
    for (int64_t g = 0; g < s.num_groups; ++g) {
      Row mine(choice.begin() + g * size, choice.begin() + (g + 1) * size);
      std::ranges::sort(mine, std::greater{});
      of_groups.push_back(s.group_by_best ? mine[0] : mine[0] + mine[1]);
    }
    const std::vector<int64_t> groups = best(of_groups, s.groups_used, margin);
    for (int64_t e = 0; e < s.num_experts; ++e)
      if (std::ranges::find(groups, e / size) == groups.end()) choice[static_cast<size_t>(e)] = -1e9;
  }

  const RandomModel& m_;
  const Architecture& a_;
  std::string prefix_;
};

}  // namespace gatewright
