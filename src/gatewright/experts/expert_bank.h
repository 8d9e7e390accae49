// What is computed for the pairs of an assignment: the one interface of the room.
#pragma once

#include <cstdint>
#include <string>

#include "gatewright/experts/expert_context.h"
#include "gatewright/routing/assignment.h"
#include "gatewright/routing/named_tensor.h"
#include "gatewright/tensor.h"

namespace gatewright {

struct ExpertSizes {
  int64_t hidden_size = 0;
  int64_t num_experts = 0;
  int64_t layer = 0;  // for messages
};

class ExpertBank {
 public:
  virtual ~ExpertBank() = default;

  /// hidden [T, H] -> [T, H]: for each token the sum over its experts of weight * expert(hidden), zero for a
  /// token that no expert computes. Gradients reach hidden, the parameters and assignment.weight.
  virtual Tensor forward(const Tensor& hidden, const Assignment& assignment,
                         const ExpertContext& context) = 0;
  /// The same outside training.
  Tensor forward(const Tensor& hidden, const Assignment& assignment) {
    return forward(hidden, assignment, ExpertContext{});
  }

  /// Appends the parameters: prefix + ".experts.{}.up_proj.weight" and so on.
  virtual void collect(ParameterList& parameters, const std::string& prefix) const = 0;

  virtual int64_t num_experts() const = 0;

  /// Multiplications and additions of the forward products of one pair.
  virtual double flops_per_pair() const = 0;
  /// The same for every token, whatever the router says (shared experts).
  virtual double flops_per_token() const { return 0; }
  /// Parameters of one routed expert, and of what every token uses.
  virtual int64_t parameters_per_expert() const = 0;
  virtual int64_t parameters_per_token() const { return 0; }
};

}  // namespace gatewright
