// Which type each tensor of a model gets when it is quantised.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/formats/tensor_view.h"

namespace gatewright {

/// "q8_0", or rules like "ffn_.*_exps=q4_k,*=q8_0": the first pattern (a regular expression that is searched
/// in the name) that matches decides. `*` or no pattern is the mix that llama.cpp uses: matrices whose name
/// ends in "weight", but no norms, routers, position and token-type embeddings; the output matrix (the token
/// embedding when there is none) gets Q6_K under types other than Q8_0. q4_k_m and q5_k_m give Q6_K to the
/// attention's values and the down projections of the first and last eighth of the layers and every third
/// between. Tensors of one dimension, and those that no rule names, stay as they are.
class QuantizeRules {
 public:
  /// Fails with a UsageError that lists what is allowed.
  explicit QuantizeRules(std::string_view text);

  struct Choice {
    DataType type;
    /// What the rules say when the rows are no whole blocks of it and `type` is another.
    std::optional<DataType> wanted = std::nullopt;
  };
  /// Nothing: the tensor stays as it is. all: every tensor of the model.
  std::optional<Choice> choose(const TensorView& tensor, const std::map<std::string, TensorView>& all) const;

  /// general.file_type for the type of `*`; nothing without it, or when it only says what the rest stays.
  std::optional<uint32_t> file_type() const;

 private:
  struct Rule {
    std::optional<std::regex> pattern;  // nothing: *
    DataType type;
    bool mixed = false;  // ..._m
  };
  std::optional<DataType> wanted(const TensorView& tensor,
                                 const std::map<std::string, TensorView>& all) const;

  std::vector<Rule> rules_;
};

/// What a row of so many values gets when `type` is wanted: another type where they are no whole blocks of
/// it, as llama.cpp chooses it.
DataType fitting_type(DataType type, int64_t row);

/// general.file_type of a model that is mostly of this type.
std::optional<uint32_t> file_type_of(DataType type);

}  // namespace gatewright
