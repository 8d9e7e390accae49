#include "gatewright/routing/router.h"

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

void check_spec(const RouterSpec& spec, const RouterSizes& sizes) {
  require(sizes.hidden_size >= 1 && sizes.num_experts >= 1,
          "a router needs a hidden size and experts, got a hidden size of {} and {} experts",
          sizes.hidden_size, sizes.num_experts);
  const std::vector<std::string> problems = router_problems(spec, sizes.num_experts);
  if (!problems.empty()) fail_usage("{}", fmt::join(problems, "; "));
}

std::unique_ptr<Scorer> make_scorer(const RouterSpec& spec, const RouterSizes& sizes, RandomStream& random) {
  check_spec(spec, sizes);
  std::unique_ptr<Scorer> scorer = scorers().at(spec.scorer.name).make(spec.scorer.values, sizes, random);
  for (const auto& entry : scorer_decorators().entries()) {
    if (const Piece* piece = find_piece(spec.decorators, entry.spec.name))
      scorer = entry.make(std::move(scorer), piece->values, sizes, random);
  }
  return scorer;
}

std::unique_ptr<choice::Selector> make_selector(const RouterSpec& spec) {
  std::unique_ptr<choice::Selector> selector =
      choice::selectors().at(spec.selector.name).make(spec.selector.values);
  for (const auto& entry : choice::selector_decorators().entries()) {
    if (const Piece* piece = find_piece(spec.decorators, entry.spec.name))
      selector = entry.make(std::move(selector), piece->values);
  }
  return selector;
}

bool is_decorated(const RouterSpec& spec) {
  return std::ranges::any_of(
      spec.decorators, [](const Piece& p) { return choice::selector_decorators().find(p.name) != nullptr; });
}

std::vector<WeightedTerm> make_balance(const RouterSpec& spec, const RouterSizes& sizes) {
  std::vector<WeightedTerm> terms;
  for (const Piece& piece : spec.balance) terms.push_back(make_balance_term(piece.name, piece.values, sizes));
  return terms;
}

choice::Rows rows_of_mask(const Tensor& mask) {
  const Tensor cells = mask.nonzero().to(at::kCPU);  // row-major: experts ascend within a token
  choice::Rows rows;
  rows.row_begin.assign(static_cast<size_t>(mask.size(0)) + 1, 0);
  const auto cell = cells.accessor<int64_t, 2>();
  for (int64_t i = 0; i < cells.size(0); ++i) {
    ++rows.row_begin[static_cast<size_t>(cell[i][0]) + 1];
    rows.expert.push_back(static_cast<int32_t>(cell[i][1]));
  }
  for (size_t t = 1; t < rows.row_begin.size(); ++t) rows.row_begin[t] += rows.row_begin[t - 1];
  return rows;
}

/// "mlp.router_norm" of "mlp.gate", and "mlp.router_norm.1" of "mlp.gate.1", the gate of a round.
std::string gain_name(const std::string& prefix) {
  const size_t dot = prefix.rfind('.');
  const bool of_a_round = dot != std::string::npos && dot + 1 < prefix.size() &&
                          prefix.find_first_not_of("0123456789", dot + 1) == std::string::npos;
  const std::string gate = of_a_round ? prefix.substr(0, dot) : prefix;
  return gate.substr(0, gate.rfind('.') + 1) + "router_norm" + (of_a_round ? prefix.substr(dot) : "");
}

std::span<const float> span_of(const Tensor& table) {
  return {table.data_ptr<float>(), static_cast<size_t>(table.numel())};
}

}  // namespace

Router::Router(std::unique_ptr<Scorer> scorer, std::unique_ptr<choice::Selector> selector,
               choice::Activation activation, choice::WeightRule weights, std::vector<WeightedTerm> balance)
    : scorer_(std::move(scorer)),
      selector_(std::move(selector)),
      activation_(activation),
      weights_(weights),
      balance_(std::move(balance)) {
  require(scorer_ && selector_, "a router needs a scorer and a selector");
}

Router::Router(const RouterSpec& spec, const RouterSizes& sizes, RandomStream& random)
    : Router(make_scorer(spec, sizes, random), make_selector(spec), spec.activation, spec.weights,
             make_balance(spec, sizes)) {
  if (spec.activation == choice::Activation::kReluRms) gain_ = constant_parameter({sizes.num_experts}, 1);
  if (!is_decorated(spec)) tensor_choice_ = tensor_choice(spec.selector.name, spec.selector.values);
}

Router::Router(const RouterSpec& spec, const RouterSizes& sizes, const Router& first)
    : scorer_(first.scorer_),
      selector_(make_selector(spec)),
      activation_(spec.activation),
      weights_(spec.weights),
      balance_(make_balance(spec, sizes)),
      gain_(first.gain_),
      owns_gate_(false) {
  if (!is_decorated(spec)) tensor_choice_ = tensor_choice(spec.selector.name, spec.selector.values);
}

choice::Selection Router::select(const Scores& scores, const RoutingContext& context) const {
  const Tensor values = selection_scores(scores, selector_->reads());
  if (values.is_cuda() && tensor_choice_) {
    require((values < std::numeric_limits<float>::infinity()).all().item<bool>(),
            "layer {}: a score of the router is not a number or infinite; the layer's input or the router's "
            "weights are damaged",
            context.layer);
    return {.rows = rows_of_mask(tensor_choice_(values))};
  }
  const Tensor plain = values.to(at::kCPU).contiguous();
  choice::ChoiceContext choice{.layer = context.layer,
                               .random = context.random,
                               .training = context.training,
                               .step = context.step,
                               .num_steps = context.num_steps,
                               .num_sequences = context.num_sequences};
  Tensor shares, real;
  if (context.training && selector_->wants_distribution()) {
    shares = distribution(scores).detach().to(at::kCPU, at::kFloat).contiguous();
    choice.distribution = span_of(shares);
    if (context.real_tokens.defined()) {
      real = context.real_tokens.to(at::kCPU, at::kByte).contiguous();
      choice.real = {real.data_ptr<uint8_t>(), static_cast<size_t>(real.numel())};
    }
  }
  return selector_->choose(
      {.values = span_of(plain), .num_tokens = plain.size(0), .num_experts = plain.size(1)}, choice);
}

RoutingRecord Router::route(const Tensor& hidden, const RoutingContext& context) {
  require(hidden.dim() == 2, "layer {}: the router expects hidden states [T, H], got {} axes", context.layer,
          hidden.dim());
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  RoutingRecord record{.layer = context.layer, .round = context.round};
  record.reads = selector_->reads();
  record.scores.logits = scorer_->logits(hidden.to(at::kFloat), context);
  require(record.scores.logits.dim() == 2 && record.scores.logits.size(0) == hidden.size(0),
          "layer {}: the scorer must give logits [T, E] for {} tokens, got {} axes and {} values",
          context.layer, hidden.size(0), record.scores.logits.dim(), record.scores.logits.numel());
  record.scores.activation = activation_;
  record.scores.probabilities = activate(activation_, record.scores.logits);
  if (gain_.defined()) record.scores.probabilities = record.scores.probabilities * gain_;
  for (WeightedTerm& t : balance_) t.term->before_choice(record.scores);
  choice::Selection selection = select(record.scores, context);
  // Balance is demanded of what the router chose, whatever a limit drops of it or a broadcast adds.
  const Assignment chosen = selection.before_capacity
                                ? weigh(weights_, record.scores, {.rows = *selection.before_capacity})
                                : Assignment();
  const bool limited = selection.before_capacity.has_value();
  record.assignment = weigh(weights_, record.scores, std::move(selection));
  add_balance(record, limited ? chosen : record.assignment, context);
  return record;
}

void Router::add_balance(RoutingRecord& record, const Assignment& chosen, const RoutingContext& context) {
  if (context.counting) {
    for (WeightedTerm& t : balance_) t.term->count(chosen, context);
    return;
  }
  for (WeightedTerm& t : balance_) {
    const Tensor value = t.term->loss(record.scores, chosen, context);
    const double weight = t.weight_in_layer(context.step, context.num_routed_layers) * t.term->factor();
    record.balance.push_back(
        {.name = t.name, .value = value.defined() ? value.detach() : Tensor(), .weight = weight});
    if (!value.defined()) continue;
    record.loss = record.loss.defined() ? record.loss + value * weight : value * weight;
  }
}

bool Router::wants_counting_pass() const {
  return std::ranges::any_of(balance_, [](const WeightedTerm& t) { return t.term->wants_counting_pass(); });
}

std::map<std::string, double> Router::observations() const {
  std::map<std::string, double> all;
  for (const WeightedTerm& t : balance_) {
    if (const auto value = t.term->observation()) all[t.name] = *value;
  }
  return all;
}

void Router::observe(const std::map<std::string, double>& means) {
  for (WeightedTerm& t : balance_) {
    if (const auto it = means.find(t.name); it != means.end()) t.term->observe(it->second);
  }
}

void Router::end_step() {
  for (WeightedTerm& t : balance_) t.term->end_step();
}

void Router::collect(ParameterList& parameters, const std::string& prefix) const {
  if (owns_gate_) scorer_->collect(parameters, prefix);
  if (owns_gate_ && gain_.defined())
    parameters.push_back({.name = gain_name(prefix) + ".weight", .tensor = gain_, .weight_decay = false});
  for (const WeightedTerm& t : balance_) t.term->collect(parameters, prefix);
}

namespace {

bool has_term(Router& router, const std::string& name) {
  return std::ranges::find(router.balance(), name, &WeightedTerm::name) != router.balance().end();
}

/// A term that layer `first` is the first to have.
void add_network_term(WeightedTerm& term, size_t first, const std::vector<Router*>& routers,
                      std::vector<RoutingRecord>& records, int64_t step) {
  std::vector<const RoutingRecord*> layers;
  size_t last = first;
  for (size_t i = first; i < routers.size(); ++i) {
    if (!has_term(*routers[i], term.name)) continue;
    layers.push_back(&records[i]);
    last = i;
  }
  const Tensor value = term.term->network_loss(layers);
  if (!value.defined()) return;
  RoutingRecord& record = records[last];
  const double weight = term.weight_at(step);
  std::ranges::find(record.balance, term.name, &RoutingRecord::TermValue::name)->value = value.detach();
  record.loss = record.loss.defined() ? record.loss + value * weight : value * weight;
}

}  // namespace

void add_network_balance(const std::vector<Router*>& routers, std::vector<RoutingRecord>& records,
                         int64_t step) {
  for (size_t i = 0; i < routers.size(); ++i) {
    for (WeightedTerm& term : routers[i]->balance()) {
      const auto before = [&](Router* r) { return has_term(*r, term.name); };
      const auto end = routers.begin() + static_cast<std::ptrdiff_t>(i);
      if (term.term->over_network() && std::none_of(routers.begin(), end, before))
        add_network_term(term, i, routers, records, step);
    }
  }
}

}  // namespace gatewright
