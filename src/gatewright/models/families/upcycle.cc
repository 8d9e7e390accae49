#include "gatewright/models/families/upcycle.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <set>

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"
#include "gatewright/base/random.h"
#include "gatewright/formats/block_types.h"
#include "gatewright/formats/tensor_names.h"

namespace gatewright {
namespace {

using Neurons = std::vector<std::vector<int64_t>>;  // of each expert

/// Fills each row with unit length; rows of zeros stay.
void normalise_rows(std::span<float> rows, int64_t columns) {
  for (size_t begin = 0; begin < rows.size(); begin += static_cast<size_t>(columns)) {
    const auto row = rows.subspan(begin, static_cast<size_t>(columns));
    const double length = std::sqrt(std::inner_product(row.begin(), row.end(), row.begin(), 0.0));
    for (float& x : row) x = length > 0 ? static_cast<float>(x / length) : 0;
  }
}

/// cosine[i, e] of every neuron with every centre.
std::vector<float> cosines(std::span<const float> rows, std::span<const float> centres, int64_t columns) {
  const auto width = static_cast<int64_t>(rows.size()) / columns,
             experts = static_cast<int64_t>(centres.size()) / columns;
  std::vector<float> result(static_cast<size_t>(width * experts));
  parallel_for(0, width, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t e = 0; e < experts; ++e) {
        const float *x = rows.data() + i * columns, *c = centres.data() + e * columns;
        result[static_cast<size_t>(i * experts + e)] = std::inner_product(x, x + columns, c, 0.0F);
      }
    }
  });
  return result;
}

/// Neurons in the order of their best cosine take their best expert that has room.
std::vector<int64_t> assign_evenly(const std::vector<float>& cosine, int64_t width, int64_t experts) {
  std::vector<std::pair<float, int64_t>> pairs;  // cosine, neuron * experts + expert
  for (int64_t i = 0; i < width * experts; ++i) pairs.emplace_back(cosine[static_cast<size_t>(i)], i);
  std::ranges::sort(pairs, [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  std::vector<int64_t> expert_of(static_cast<size_t>(width), -1),
      room(static_cast<size_t>(experts), width / experts);
  for (const auto& [value, pair] : pairs) {
    int64_t& mine = expert_of[static_cast<size_t>(pair / experts)];
    int64_t& left = room[static_cast<size_t>(pair % experts)];
    if (mine < 0 && left > 0) mine = pair % experts, --left;
  }
  return expert_of;
}

Neurons by_expert(const std::vector<int64_t>& expert_of, int64_t experts) {
  Neurons neurons(static_cast<size_t>(experts));
  for (size_t i = 0; i < expert_of.size(); ++i)
    neurons[static_cast<size_t>(expert_of[i])].push_back(static_cast<int64_t>(i));
  return neurons;
}

/// Consecutive pieces of an order.
Neurons pieces(const std::vector<int64_t>& order, int64_t experts) {
  Neurons neurons;
  const auto size = static_cast<std::ptrdiff_t>(std::ssize(order) / experts);
  for (int64_t e = 0; e < experts; ++e) {
    neurons.emplace_back(order.begin() + e * size, order.begin() + (e + 1) * size);
    std::ranges::sort(neurons.back());
  }
  return neurons;
}

std::string layer_prefix(int64_t layer) { return fmt::format("model.layers.{}.", layer); }

class Upcycled : public ModelSource {
 public:
  Upcycled(const ModelSource& dense, const UpcycleOptions& options) : dense_(dense), options_(options) {
    architecture_ = dense.architecture();
    check();
    architecture_.family = "mixtral";
    for (const int64_t layer : chosen_layers()) make_routed(layer);
    tensors_ = model_tensors(architecture_);
    for (const ModelTensor& t : dense.tensors()) of_dense_[t.name] = &t;
    metadata_ = dense.metadata();
    metadata_.erase("gatewright.model_type");
    config_ = dense.config();
  }

  const Architecture& architecture() const override { return architecture_; }
  const std::vector<ModelTensor>& tensors() const override { return tensors_; }
  const GgufMetadata& metadata() const override { return metadata_; }
  const OrderedJson& config() const override { return config_; }
  std::filesystem::path folder() const override { return dense_.folder(); }

  DataType type_of(const ModelTensor& tensor) const override {
    const ModelTensor* source = source_of(tensor);
    if (!source) return DataType::kF32;  // a router
    const DataType type = dense_.type_of(*source);
    if (is_expert(tensor) && options_.noise > 0) return DataType::kF32;
    return is_divided_down(tensor) && is_packed(type) ? DataType::kF32 : type;
  }

  std::span<const std::byte> rows(const ModelTensor& tensor, int64_t first, int64_t count,
                                  std::vector<std::byte>& storage) const override;

 private:
  void check() const;
  std::vector<int64_t> chosen_layers() const;
  void make_routed(int64_t layer);
  const Neurons& neurons(int64_t layer) const;

  static bool is_expert(const ModelTensor& tensor) {
    return tensor.name.find(".experts.{}.") != std::string::npos;
  }
  bool is_divided_down(const ModelTensor& tensor) const {
    return options_.split != UpcycleSplit::kCopy && is_expert(tensor) &&
           tensor.name.ends_with("down_proj.weight");
  }
  static int64_t layer_of(const ModelTensor& tensor) {
    return number_after(tensor.name, "model.layers.").value();
  }
  /// The dense tensor that rows come from; null for routers.
  const ModelTensor* source_of(const ModelTensor& tensor) const {
    std::string name = tensor.name;
    if (is_expert(tensor)) name.erase(name.find("experts.{}."), std::string("experts.{}.").size());
    const auto it = of_dense_.find(name);
    return it == of_dense_.end() ? nullptr : it->second;
  }

  /// Of expert e of a tensor, row r: float32.
  void expert_row(const ModelTensor& tensor, const ModelTensor& source, int64_t e, int64_t r,
                  std::span<float> out) const;
  double noise_size(const ModelTensor& source) const;

  const ModelSource& dense_;
  UpcycleOptions options_;
  Architecture architecture_;
  std::vector<ModelTensor> tensors_;
  std::map<std::string, const ModelTensor*> of_dense_;
  GgufMetadata metadata_;
  OrderedJson config_;
  mutable std::map<int64_t, Neurons> neurons_;  // of each layer, made when they are first asked for
  mutable std::map<std::string, double> noise_sizes_;
};

void Upcycled::check() const {
  const Architecture& a = architecture_;
  require(a.family == "llama" || a.family == "mistral",
          "a mixture in Mixtral's layout can be made of models of the families llama and mistral; this one "
          "is of the "
          "family {}",
          a.family);
  require(!a.query_key_value_bias && !a.output_bias,
          "Mixtral's layout has no place for the biases of the attention");
  require(options_.num_experts >= 1 && options_.top_k >= 1 && options_.top_k <= options_.num_experts,
          "{} of {} experts a token: 1 to {} can be", options_.top_k, options_.num_experts,
          options_.num_experts);
  for (const int64_t layer : options_.layers)
    require(layer >= 0 && layer < a.num_layers(), "there is no layer {}: the model has layers 0 to {}", layer,
            a.num_layers() - 1);
  if (options_.split == UpcycleSplit::kCopy) return;
  for (const int64_t layer : chosen_layers()) {
    const int64_t width = a.layers[static_cast<size_t>(layer)].dense_width;
    require(width % options_.num_experts == 0, "layer {} has {} neurons, which {} experts can't share evenly",
            layer, width, options_.num_experts);
  }
  require(options_.noise == 0,
          "noise is for copies; the experts of a divided feed-forward differ by themselves");
}

std::vector<int64_t> Upcycled::chosen_layers() const {
  if (!options_.layers.empty()) {
    const std::set<int64_t> once(options_.layers.begin(), options_.layers.end());
    return {once.begin(), once.end()};
  }
  std::vector<int64_t> all(architecture_.layers.size());
  std::iota(all.begin(), all.end(), 0);
  return all;
}

void Upcycled::make_routed(int64_t layer) {
  ArchitectureLayer& spec = architecture_.layers[static_cast<size_t>(layer)];
  const int64_t parts = options_.split == UpcycleSplit::kCopy ? 1 : options_.num_experts;
  spec.routed = RoutedSpec{.num_experts = options_.num_experts,
                           .top_k = options_.top_k,
                           .width = spec.dense_width / parts,
                           .renormalise = true};
  spec.dense_width = 0;
}

const Neurons& Upcycled::neurons(int64_t layer) const {
  const auto known = neurons_.find(layer);
  if (known != neurons_.end()) return known->second;
  const ModelTensor& gate = *of_dense_.at(layer_prefix(layer) + "mlp.gate_proj.weight");
  const int64_t width = gate.rows(), hidden = gate.columns();
  const std::string stream = fmt::format("upcycle.{}", layer);
  if (options_.split == UpcycleSplit::kClustered) {
    std::vector<float> rows(static_cast<size_t>(width * hidden));
    dense_.read_values(gate, 0, width, rows);
    return neurons_[layer] = cluster_neurons(rows, hidden, options_.num_experts,
                                             options_.seed + static_cast<uint64_t>(layer));
  }
  std::vector<int64_t> order(static_cast<size_t>(width));
  std::iota(order.begin(), order.end(), 0);
  RandomStream random(options_.seed, stream);
  if (options_.split == UpcycleSplit::kRandom) random.shuffle(std::span(order));
  return neurons_[layer] = pieces(order, options_.num_experts);
}

double Upcycled::noise_size(const ModelTensor& source) const {
  const auto known = noise_sizes_.find(source.name);
  if (known != noise_sizes_.end()) return known->second;
  std::vector<float> row(static_cast<size_t>(source.columns()));
  double squares = 0;
  for (int64_t r = 0; r < source.rows(); ++r) {
    dense_.read_values(source, r, 1, row);
    squares += std::inner_product(row.begin(), row.end(), row.begin(), 0.0);
  }
  const double deviation = std::sqrt(squares / static_cast<double>(source.rows() * source.columns()));
  return noise_sizes_[source.name] = options_.noise * deviation;
}

void Upcycled::expert_row(const ModelTensor& tensor, const ModelTensor& source, int64_t e, int64_t r,
                          std::span<float> out) const {
  if (options_.split == UpcycleSplit::kCopy) {
    dense_.read_values(source, r, 1, out);
    if (options_.noise == 0) return;
    RandomStream random(options_.seed, fmt::format("{}.{}.{}", tensor.name, e, r));
    const double size = noise_size(source);
    for (float& x : out) x += static_cast<float>(size * random.normal());
    return;
  }
  const std::vector<int64_t>& mine = neurons(layer_of(tensor))[static_cast<size_t>(e)];
  if (!is_divided_down(tensor)) return dense_.read_values(source, mine[static_cast<size_t>(r)], 1, out);
  std::vector<float> whole(static_cast<size_t>(source.columns()));
  dense_.read_values(source, r, 1, whole);
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = whole[static_cast<size_t>(mine[i])] * static_cast<float>(options_.num_experts);
}

std::span<const std::byte> Upcycled::rows(const ModelTensor& tensor, int64_t first, int64_t count,
                                          std::vector<std::byte>& storage) const {
  const ModelTensor* source = source_of(tensor);
  if (source && !is_expert(tensor)) return dense_.rows(*source, first, count, storage);
  const DataType type = type_of(tensor);
  const int64_t columns = tensor.columns(), of_expert = source ? tensor.rows() / options_.num_experts : 0;
  const auto bytes = static_cast<size_t>(columns / block_elements(type) * block_bytes(type));
  storage.resize(static_cast<size_t>(count) * bytes);
  std::vector<float> values(static_cast<size_t>(columns));
  std::vector<std::byte> row;
  for (int64_t i = 0; i < count; ++i) {
    const std::span<std::byte> to = std::span(storage).subspan(static_cast<size_t>(i) * bytes, bytes);
    if (!source) {
      RandomStream random(options_.seed, fmt::format("{}.{}", tensor.name, first + i));
      for (float& x : values) x = static_cast<float>(options_.router_init * random.normal());
      std::memcpy(to.data(), values.data(), bytes);
      continue;
    }
    const int64_t e = (first + i) / of_expert, r = (first + i) % of_expert;
    if (type == dense_.type_of(*source) && !is_divided_down(tensor) && options_.noise == 0) {
      const int64_t of_source =
          options_.split == UpcycleSplit::kCopy
              ? r
              : neurons(layer_of(tensor))[static_cast<size_t>(e)][static_cast<size_t>(r)];
      std::ranges::copy(dense_.rows(*source, of_source, 1, row), to.begin());
      continue;
    }
    expert_row(tensor, *source, e, r, values);
    pack(type, values, columns, {}, to);
  }
  return storage;
}

}  // namespace

std::vector<std::vector<int64_t>> cluster_neurons(std::span<const float> gate, int64_t hidden,
                                                  int64_t num_experts, uint64_t seed) {
  constexpr int kRounds = 20;
  const auto width = static_cast<int64_t>(gate.size()) / hidden;
  require(num_experts >= 1 && width % num_experts == 0, "{} neurons can't be shared evenly by {} experts",
          width, num_experts);
  std::vector<float> rows(gate.begin(), gate.end());
  normalise_rows(rows, hidden);
  // The first centres are neurons that are drawn.
  std::vector<int64_t> order(static_cast<size_t>(width));
  std::iota(order.begin(), order.end(), 0);
  RandomStream random(seed, "cluster");
  random.shuffle(std::span(order));
  std::vector<float> centres(static_cast<size_t>(num_experts * hidden));
  for (int64_t e = 0; e < num_experts; ++e)
    std::copy_n(rows.begin() + order[static_cast<size_t>(e)] * hidden, hidden, centres.begin() + e * hidden);
  std::vector<int64_t> expert_of;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<int64_t> next = assign_evenly(cosines(rows, centres, hidden), width, num_experts);
    if (next == expert_of) break;
    expert_of = std::move(next);
    std::ranges::fill(centres, 0.0F);
    for (int64_t i = 0; i < width; ++i) {
      float* centre = centres.data() + expert_of[static_cast<size_t>(i)] * hidden;
      for (int64_t c = 0; c < hidden; ++c) centre[c] += rows[static_cast<size_t>(i * hidden + c)];
    }
    normalise_rows(centres, hidden);
  }
  return by_expert(expert_of, num_experts);
}

std::unique_ptr<ModelSource> upcycle(const ModelSource& dense, const UpcycleOptions& options) {
  return std::make_unique<Upcycled>(dense, options);
}

}  // namespace gatewright
