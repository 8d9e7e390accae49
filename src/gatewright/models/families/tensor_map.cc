#include "gatewright/models/families/tensor_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "gatewright/base/checked.h"

namespace gatewright {
namespace {

using Shape = std::vector<int64_t>;
using Ranges = std::vector<RowRange>;

int64_t count(const Shape& shape) { return checked_product(shape, "the size of a tensor"); }

/// The whole of a tensor of the file, which has our shape unless told otherwise.
Ranges whole(std::string name, const Shape& shape, const Shape& file_shape = {}) {
  const int64_t columns = shape.size() > 1 ? shape.back() : 1;
  return {{.tensor = std::move(name),
           .shape = file_shape.empty() ? shape : file_shape,
           .rows = count(shape) / columns}};
}

/// Builds the list of one model.
class TensorLister {
 public:
  explicit TensorLister(const Architecture& a) : a_(a), family_(*find_family(a.family)) {}

  std::vector<ModelTensor> list() {
    add("model.embed_tokens.weight", "token_embd.weight", {a_.vocab_size, a_.hidden_size});
    for (int64_t layer = 0; layer < a_.num_layers(); ++layer) {
      ours_ = fmt::format("model.layers.{}.", layer);
      gguf_ = fmt::format("blk.{}.", layer);
      const ArchitectureLayer& spec = a_.layers[static_cast<size_t>(layer)];
      layer_tensor("input_layernorm.weight", "attn_norm.weight", {a_.hidden_size});
      a_.latent ? add_latent_attention(*a_.latent) : add_attention();
      layer_tensor("post_attention_layernorm.weight",
                   family_.model_type == "gpt_oss" ? "post_attention_norm.weight" : "ffn_norm.weight",
                   {a_.hidden_size});
      spec.routed ? add_routed(*spec.routed) : add_dense("mlp", "", spec.dense_width);
    }
    add("model.norm.weight", "output_norm.weight", {a_.hidden_size});
    if (!a_.tie_word_embeddings) add("lm_head.weight", "output.weight", {a_.vocab_size, a_.hidden_size});
    return std::move(tensors_);
  }

 private:
  ModelTensor& add(const std::string& ours, const std::string& gguf, const Shape& shape) {
    tensors_.push_back(
        {.name = ours, .shape = shape, .gguf = {whole(gguf, shape)}, .hugging_face = {whole(ours, shape)}});
    return tensors_.back();
  }
  ModelTensor& layer_tensor(const std::string& ours, const std::string& gguf, const Shape& shape) {
    return add(ours_ + ours, gguf_ + gguf, shape);
  }

  void add_attention() {
    const int64_t q = a_.num_heads * a_.head_dim, kv = a_.num_kv_heads * a_.head_dim;
    if (family_.model_type == "phi3")
      add_fused_attention(q, kv);
    else
      add_projections(q, kv);
    layer_tensor("self_attn.o_proj.weight", "attn_output.weight", {a_.hidden_size, q});
    if (a_.output_bias) layer_tensor("self_attn.o_proj.bias", "attn_output.bias", {a_.hidden_size});
    if (a_.attention_sinks) layer_tensor("self_attn.sinks", "attn_sinks.weight", {a_.num_heads});
    if (a_.query_key_norm == QueryKeyNorm::kNone) return;
    const bool per_head = a_.query_key_norm == QueryKeyNorm::kHead;
    layer_tensor("self_attn.q_norm.weight", "attn_q_norm.weight", {per_head ? a_.head_dim : q});
    layer_tensor("self_attn.k_norm.weight", "attn_k_norm.weight", {per_head ? a_.head_dim : kv});
  }

  void add_projections(int64_t q, int64_t kv) {
    const auto projection = [&](const char* name, int64_t rows, int64_t heads) {
      for (const char* what : {"weight", "bias"}) {
        const bool bias = std::string_view(what) == "bias";
        if (bias && !a_.query_key_value_bias) continue;
        ModelTensor& t = layer_tensor(fmt::format("self_attn.{}_proj.{}", name, what),
                                      fmt::format("attn_{}.{}", name, what),
                                      bias ? Shape{rows} : Shape{rows, a_.hidden_size});
        if (!family_.permuted_rotary || heads == 0) continue;
        t.gguf[0][0].layout = RowLayout::kInterleavedHeads;
        t.gguf[0][0].heads = heads;
      }
    };
    projection("q", q, a_.num_heads);
    projection("k", kv, a_.num_kv_heads);
    projection("v", kv, 0);
  }

  /// Queries, keys and values in one tensor of both formats (Phi-3).
  void add_fused_attention(int64_t q, int64_t kv) {
    const Shape all = {q + 2 * kv, a_.hidden_size};
    int64_t first = 0;
    for (const auto& [name, rows] : {std::pair("q", q), {"k", kv}, {"v", kv}}) {
      ModelTensor& t = layer_tensor(fmt::format("self_attn.{}_proj.weight", name),
                                    fmt::format("attn_{}.weight", name), {rows, a_.hidden_size});
      const RowRange range{.shape = all, .rows = rows, .first = first};
      put_first(t, range, gguf_ + "attn_qkv.weight", ours_ + "self_attn.qkv_proj.weight");
      first += rows;
    }
  }

  /// The range of a fused tensor before the ranges of a tensor of its own.
  static void put_first(ModelTensor& tensor, RowRange range, const std::string& gguf,
                        const std::string& hugging_face) {
    range.tensor = gguf;
    tensor.gguf.insert(tensor.gguf.begin(), {range});
    range.tensor = hugging_face;
    tensor.hugging_face.insert(tensor.hugging_face.begin(), {range});
  }

  void add_latent_attention(const LatentAttentionSpec& l) {
    const int64_t head = l.nope_dim + l.rope_dim, q = a_.num_heads * head;
    if (l.query_rank > 0) {
      layer_tensor("self_attn.q_a_proj.weight", "attn_q_a.weight", {l.query_rank, a_.hidden_size});
      layer_tensor("self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight", {l.query_rank});
      layer_tensor("self_attn.q_b_proj.weight", "attn_q_b.weight", {q, l.query_rank});
    } else {
      layer_tensor("self_attn.q_proj.weight", "attn_q.weight", {q, a_.hidden_size});
    }
    layer_tensor("self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa.weight",
                 {l.key_value_rank + l.rope_dim, a_.hidden_size});
    layer_tensor("self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight", {l.key_value_rank});
    ModelTensor& kv = layer_tensor("self_attn.kv_b_proj.weight", "attn_kv_b.weight",
                                   {a_.num_heads * (l.nope_dim + l.value_dim), l.key_value_rank});
    kv.gguf.insert(kv.gguf.begin(), split_key_values(l));
    layer_tensor("self_attn.o_proj.weight", "attn_output.weight",
                 {a_.hidden_size, a_.num_heads * l.value_dim});
  }

  /// Each head's rows for keys, transposed in a tensor of their own, and for values.
  Ranges split_key_values(const LatentAttentionSpec& l) const {
    Ranges ranges;
    for (int64_t h = 0; h < a_.num_heads; ++h) {
      ranges.push_back({.tensor = gguf_ + "attn_k_b.weight",
                        .shape = {a_.num_heads, l.key_value_rank, l.nope_dim},
                        .rows = l.nope_dim,
                        .layout = RowLayout::kTransposed,
                        .slice = h});
      ranges.push_back({.tensor = gguf_ + "attn_v_b.weight",
                        .shape = {a_.num_heads, l.value_dim, l.key_value_rank},
                        .rows = l.value_dim,
                        .first = h * l.value_dim});
    }
    return ranges;
  }

  /// A SwiGLU under "mlp", or under a name of shared experts.
  void add_dense(const std::string& block, const std::string& suffix, int64_t width) {
    const Shape in = {width, a_.hidden_size};
    const bool fused = family_.model_type == "phi3";
    int64_t first = 0;
    for (const char* name : {"gate", "up"}) {
      ModelTensor& t = layer_tensor(fmt::format("{}.{}_proj.weight", block, name),
                                    fmt::format("ffn_{}{}.weight", name, suffix), in);
      if (fused) {
        const RowRange range{.shape = {2 * width, a_.hidden_size}, .rows = width, .first = first};
        put_first(t, range, gguf_ + "ffn_up.weight", ours_ + "mlp.gate_up_proj.weight");
      }
      first += width;
    }
    layer_tensor(block + ".down_proj.weight", fmt::format("ffn_down{}.weight", suffix),
                 {a_.hidden_size, width});
  }

  void add_routed(const RoutedSpec& r) {
    const bool gpt_oss = family_.model_type == "gpt_oss";
    const std::string router = gpt_oss ? "mlp.router" : family_.routed_block + ".gate";
    ModelTensor& gate =
        layer_tensor("mlp.gate.weight", "ffn_gate_inp.weight", {r.num_experts, a_.hidden_size});
    gate.hugging_face = {whole(ours_ + router + ".weight", gate.shape)};
    if (r.router_bias) {
      ModelTensor& bias = layer_tensor("mlp.gate.bias", "ffn_gate_inp.bias", {r.num_experts});
      bias.hugging_face = {whole(ours_ + router + ".bias", bias.shape)};
    }
    if (r.selection_bias)
      layer_tensor("mlp.gate.e_score_correction_bias", "exp_probs_b.bias", {r.num_experts});
    for (const int part : {0, 1, 2}) add_experts(r, part);
    if (r.shared_width == 0) return;
    if (!r.shared_gate) return add_dense("mlp.shared_experts", "_shexp", r.shared_width);
    add_dense("mlp.shared_expert", "_shexp", r.shared_width);
    ModelTensor& shared_gate =
        layer_tensor("mlp.shared_expert_gate.weight", "ffn_gate_inp_shexp.weight", {1, a_.hidden_size});
    shared_gate.gguf = {whole(gguf_ + "ffn_gate_inp_shexp.weight", shared_gate.shape, {a_.hidden_size})};
  }

  /// part: 0 gate, 1 up, 2 down.
  void add_experts(const RoutedSpec& r, int part) {
    static constexpr const char* kNames[] = {"gate", "up", "down"};
    const char* name = kNames[part];
    const Shape one = part == 2 ? Shape{a_.hidden_size, r.width} : Shape{r.width, a_.hidden_size};
    ModelTensor& t = layer_tensor(fmt::format("mlp.experts.{{}}.{}_proj.weight", name),
                                  fmt::format("ffn_{}_exps.weight", name), {r.num_experts, one[0], one[1]});
    if (family_.model_type == "gpt_oss") {
      set_gpt_oss(t, r, part);
      return add_expert_biases(r, part);
    }
    const std::string experts = ours_ + family_.routed_block + ".experts.";
    Ranges each, each_in_gguf, fused;
    for (int64_t e = 0; e < r.num_experts; ++e) {
      each.push_back({.tensor = fmt::format("{}{}.{}.weight", experts, e,
                                            family_.expert_names[static_cast<size_t>(part)]),
                      .shape = one,
                      .rows = one[0]});
      each_in_gguf.push_back(
          {.tensor = fmt::format("{}ffn_{}.{}.weight", gguf_, name, e), .shape = one, .rows = one[0]});
      fused.push_back({.tensor = experts + "gate_up_proj",
                       .shape = {r.num_experts, 2 * r.width, a_.hidden_size},
                       .rows = r.width,
                       .first = (2 * e + part) * r.width});
    }
    if (part == 2) fused = whole(experts + "down_proj", t.shape);
    t.gguf.push_back(std::move(each_in_gguf));
    t.hugging_face = {std::move(each), std::move(fused)};
  }

  /// Gate and up are the even and the odd columns of one stack of transposed matrices, or rows in MXFP4.
  void set_gpt_oss(ModelTensor& t, const RoutedSpec& r, int part) {
    const std::string name = ours_ + (part == 2 ? "mlp.experts.down_proj" : "mlp.experts.gate_up_proj");
    const int64_t rows = t.shape[1], step = part == 2 ? 1 : 2, file_rows = rows * step,
                  first = part == 1 ? 1 : 0;
    Ranges transposed, packed;
    for (int64_t e = 0; e < r.num_experts; ++e) {
      transposed.push_back({.tensor = name,
                            .shape = {r.num_experts, t.columns(), file_rows},
                            .rows = rows,
                            .first = first,
                            .step = step,
                            .layout = RowLayout::kTransposed,
                            .slice = e});
      packed.push_back({.tensor = name,
                        .shape = {r.num_experts, file_rows, t.columns()},
                        .rows = rows,
                        .first = e * file_rows + first,
                        .step = step,
                        .layout = RowLayout::kMxfp4Pairs});
    }
    t.hugging_face = {std::move(transposed), std::move(packed)};
  }

  void add_expert_biases(const RoutedSpec& r, int part) {
    static constexpr const char* kNames[] = {"gate", "up", "down"};
    const int64_t size = part == 2 ? a_.hidden_size : r.width;
    ModelTensor& t = layer_tensor(fmt::format("mlp.experts.{{}}.{}_proj.bias", kNames[part]),
                                  fmt::format("ffn_{}_exps.bias", kNames[part]), {r.num_experts, size});
    if (part == 2) {
      t.hugging_face = {whole(ours_ + "mlp.experts.down_proj_bias", t.shape)};
      return;
    }
    // A bias is a row of one value, and every second value of the file's.
    Ranges ranges;
    for (int64_t e = 0; e < r.num_experts; ++e) {
      ranges.push_back({.tensor = ours_ + "mlp.experts.gate_up_proj_bias",
                        .shape = {r.num_experts, 2 * size},
                        .rows = size,
                        .first = e * 2 * size + part,
                        .step = 2});
    }
    t.shape = {r.num_experts * size};
    t.hugging_face = {std::move(ranges)};
    t.gguf = {whole(t.gguf[0][0].tensor, t.shape, {r.num_experts, size})};
  }

  const Architecture& a_;
  const Family& family_;
  std::string ours_, gguf_;  // prefixes of the layer
  std::vector<ModelTensor> tensors_;
};

}  // namespace

int64_t file_row(const RowRange& range, int64_t row) {
  if (range.layout != RowLayout::kInterleavedHeads) return range.first + row * range.step;
  const int64_t head = range.rows / range.heads, half = head / 2, in_head = row % head;
  const int64_t interleaved = in_head < half ? 2 * in_head : 2 * (in_head - half) + 1;
  return range.first + row - in_head + interleaved;
}

int64_t ModelTensor::rows() const { return count(shape) / columns(); }

std::vector<ModelTensor> model_tensors(const Architecture& architecture) {
  check_architecture(architecture, "the model");
  return TensorLister(architecture).list();
}

std::vector<FileTensor> file_tensors(const std::vector<ModelTensor>& tensors, FileFormat format) {
  std::vector<FileTensor> files;
  std::map<std::string, size_t> at;
  for (const ModelTensor& tensor : tensors) {
    int64_t row = 0;
    for (const RowRange& range : tensor.in(format)[0]) {
      const auto [it, is_new] = at.emplace(range.tensor, files.size());
      if (is_new) files.push_back({.name = range.tensor, .shape = range.shape});
      files[it->second].parts.push_back({.tensor = &tensor, .first_row = row, .range = range});
      row += range.rows;
    }
  }
  for (FileTensor& file : files) {
    std::ranges::stable_sort(
        file.parts, {}, [](const FileTensor::Part& p) { return std::pair(p.range.slice, p.range.first); });
  }
  return files;
}

}  // namespace gatewright
