#include "gatewright/routing/router_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "gatewright/base/error.h"
#include "gatewright/routing/balance.h"
#include "gatewright/routing/choice/registry.h"
#include "gatewright/routing/choice/selectors/broadcast.h"
#include "gatewright/routing/scorer.h"

namespace gatewright {
namespace {

/// What is wrong, collected as sentences.
class Problems {
 public:
  template <typename... Args>
  void expect(bool condition, fmt::format_string<Args...> format, Args&&... args) {
    if (!condition) texts_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  /// The error of `body`, when it has one.
  template <typename Body>
  void attempt(const Body& body) {
    try {
      body();
    } catch (const Error& error) {
      texts_.push_back(error.what());
    }
  }
  std::vector<std::string> take() { return std::move(texts_); }

 private:
  std::vector<std::string> texts_;
};

void check_names(const std::vector<Piece>& pieces, std::string_view kind,
                 const std::vector<std::string>& known, Problems& problems) {
  for (const Piece& piece : pieces) {
    problems.expect(std::ranges::find(known, piece.name) != known.end(), "there is no {} '{}'{}", kind,
                    piece.name, did_you_mean(piece.name, known));
    problems.expect(find_piece(pieces, piece.name) == &piece, "the {} '{}' is given twice", kind, piece.name);
  }
}

void check_scorer(const RouterSpec& spec, int64_t num_experts, Problems& problems) {
  if (spec.scorer.name != "mixture") return;
  const int64_t routers = spec.scorer.values.integer("num_routers");
  problems.expect(
      routers <= num_experts,
      "num_routers = {} sub-routers for {} experts: more than there are experts to disagree about; choose "
      "at most {}",
      routers, num_experts, num_experts);
}

void check_selector(const RouterSpec& spec, int64_t num_experts, Problems& problems) {
  const auto& values = spec.selector.values.all();
  if (const auto k = values.find("top_k"); k != values.end()) {
    problems.expect(std::get<int64_t>(k->second) <= num_experts,
                    "top_k = {} of {} experts; choose at most {}", std::get<int64_t>(k->second), num_experts,
                    num_experts);
  }
  if (const auto groups = values.find("num_groups"); groups != values.end()) {
    problems.expect(num_experts % std::get<int64_t>(groups->second) == 0,
                    "num_groups = {} does not divide {} experts", std::get<int64_t>(groups->second),
                    num_experts);
  }
  problems.attempt([&] {
    choice::selectors().at(spec.selector.name).make(spec.selector.values)->check_experts(num_experts);
  });
}

void check_decorators(const RouterSpec& spec, int64_t num_experts, Problems& problems) {
  std::vector<std::string> known = scorer_decorators().names();
  for (const std::string& name : choice::selector_decorators().names()) known.push_back(name);
  check_names(spec.decorators, "decorator", known, problems);
  RandomStream random(0, "router_problems");
  for (const Piece& piece : spec.decorators) {
    if (const auto* entry = scorer_decorators().find(piece.name)) {
      const RouterSizes sizes{.hidden_size = 1, .num_experts = num_experts};
      problems.attempt([&] { entry->make(nullptr, piece.values, sizes, random); });
    } else if (const auto* of_selector = choice::selector_decorators().find(piece.name)) {
      problems.attempt([&] { of_selector->make(nullptr, piece.values); });
    }
  }
  problems.expect(spec.selector.name != "all" || find_piece(spec.decorators, "broadcast") == nullptr,
                  "[broadcast] every token visits all experts already with selector = \"all\"; take another "
                  "selector, such as \"top_k\", or leave [routing.broadcast] out");
  problems.expect(
      spec.selector.name != "relu" || find_piece(spec.decorators, "data_selection") == nullptr,
      "[data_selection] compares tokens by the probabilities of their experts, and selector = \"relu\" "
      "reads logits; take selector = \"top_k\", or leave [routing.data_selection] out");
  const bool ranked = find_piece(spec.decorators, "ranked_capacity") != nullptr;
  problems.expect(!ranked || num_experts >= 2,
                  "[ranked_capacity] a capacity limit needs at least 2 experts, got {}; leave it out",
                  num_experts);
  problems.expect(!ranked || find_piece(spec.decorators, "capacity") == nullptr,
                  "[capacity] and [ranked_capacity] both limit the experts; leave one of them out");
  const bool open = spec.selector.name == "relu" || spec.selector.name == "threshold";
  for (const char* limit : {"capacity", "ranked_capacity"})
    problems.expect(
        !open || find_piece(spec.decorators, limit) == nullptr,
        "[{}] gives each expert its share of the choices that tokens have, and selector = \"{}\" leaves "
        "tokens without any; take selector = \"top_k\" or \"top_p\", or leave [routing.{}] out",
        limit, spec.selector.name, limit);
  const Piece *omit = find_piece(spec.decorators, "omit"), *force = find_piece(spec.decorators, "force");
  if (force == nullptr) return;
  for (int64_t e : force->values.integers("experts")) {
    problems.expect(e < num_experts, "[force] there is no expert {}; the experts are 0 to {}", e,
                    num_experts - 1);
    problems.expect(omit == nullptr || std::ranges::count(omit->values.integers("experts"), e) == 0,
                    "expert {} is both omitted and forced; leave it out of one of the two lists", e);
  }
}

/// A bound decides about the number of experts, and that many can be visited.
void check_budget(const RouterSpec& spec, int64_t num_experts, Problems& problems) {
  const Piece* term = find_piece(spec.balance, "expert_budget");
  const double budget = term ? term->values.number("experts_per_token") : 0;
  if (budget == 0) return;
  const bool bounded = spec.selector.name == "top_p";
  problems.expect(
      bounded,
      "[expert_budget] moves the bound of selector = \"top_p\", and \"{}\" has another rule; take "
      "top_p, or leave [balance.expert_budget] out",
      spec.selector.name);
  if (!bounded) return;
  const auto& values = spec.selector.values.all();
  const auto limit = [&](const char* name, int64_t otherwise) {
    const int64_t value = values.contains(name) ? spec.selector.values.integer(name) : 0;
    return value > 0 ? std::min(value, num_experts) : otherwise;
  };
  const int64_t least = limit("min_experts", 0), most = limit("max_experts", num_experts);
  problems.expect(
      static_cast<double>(least) <= budget && budget <= static_cast<double>(most),
      "[expert_budget] experts_per_token = {:g}, but with selector = \"{}\" a token visits {} to {} "
      "experts here",
      budget, spec.selector.name, least, most);
}

/// Scopes of the load-balancing loss and what goes with them.
void check_balance(const RouterSpec& spec, int64_t num_experts, Problems& problems) {
  check_budget(spec, num_experts, problems);
  for (const Piece& term : spec.balance) {
    const auto& values = term.values.all();
    if (!values.contains("counting_pass") || !term.values.flag("counting_pass")) continue;
    const std::string& scope = term.values.text("scope");
    problems.expect(
        scope == "global_batch" || scope == "mixed" || scope == "shuffled",
        "[{}] counting_pass = true counts a step before it is learned from, which scope = \"{}\" does "
        "not use; set scope = \"global_batch\", \"mixed\" or \"shuffled\", or leave counting_pass out",
        term.name, scope);
  }
}

/// Activations that make no sense with a selector or a weighting.
void check_activation(const RouterSpec& spec, Problems& problems) {
  problems.expect(
      !spec.weights.straight_through || spec.weights.weighting == choice::Weighting::kOne,
      "gate_gradient = \"straight_through\" is for weights of 1, and the gate already has the gradient "
      "of weights = \"{}\"; set weights = \"one\", or leave gate_gradient out",
      choice::weighting_names()[static_cast<size_t>(spec.weights.weighting)]);
  problems.expect(
      spec.selector.name != "relu" || spec.activation != choice::Activation::kSoftmax,
      "the selector relu chooses by the sign of the logit; set routing.activation = \"identity\" (the "
      "logit is the weight) or \"sigmoid\"");
  problems.expect(spec.selector.name != "top_p" || spec.activation == choice::Activation::kSoftmax ||
                      spec.activation == choice::Activation::kSigmoid,
                  "top_p adds up probabilities until they exceed p, and activation = \"{}\" gives none that "
                  "sum to 1; use "
                  "activation = \"softmax\", or selector = \"relu\"",
                  choice::activation_names()[static_cast<size_t>(spec.activation)]);
  const bool only_positive = spec.selector.name == "relu" || spec.selector.name == "threshold";
  problems.expect(
      spec.activation != choice::Activation::kIdentity || only_positive ||
          spec.weights.weighting != choice::Weighting::kRenormalised,
      "weights = \"renormalised\" divides by a sum of logits, which can vanish, when activation = "
      "\"identity\"; use \"softmax_chosen\"");
}

/// A piece of a router with its specification.
struct KnownPiece {
  const Piece* piece;
  const Spec* spec;
};

template <typename Factory>
void add_known(std::vector<KnownPiece>& known, const Registry<Factory>& registry, const Piece& piece) {
  if (const auto* entry = registry.find(piece.name)) known.push_back({&piece, &entry->spec});
}

std::vector<KnownPiece> pieces_of(const RouterSpec& router) {
  std::vector<KnownPiece> known;
  add_known(known, scorers(), router.scorer);
  add_known(known, choice::selectors(), router.selector);
  for (const Piece& d : router.decorators) {
    add_known(known, scorer_decorators(), d);
    add_known(known, choice::selector_decorators(), d);
  }
  for (const Piece& term : router.balance) add_known(known, balance_terms(), term);
  return known;
}

/// The same piece in two layers of one network.
void check_agreement(const RoutedLayer& a, const KnownPiece& in_a, const RoutedLayer& b,
                     const KnownPiece& in_b, Problems& problems) {
  for (const Parameter& p : in_a.spec->parameters) {
    if (!p.same_in_all_layers) continue;
    const Value &first = in_a.piece->values.all().at(p.name), &second = in_b.piece->values.all().at(p.name);
    problems.expect(first == second,
                    "{} = {} in layer {} and {} in layer {}, but the layers with {} share it; give them the "
                    "same value",
                    p.name, to_string(first), a.layer, to_string(second), b.layer, in_a.spec->name);
  }
  problems.expect(
      !in_a.spec->across_layers || a.num_experts == b.num_experts,
      "num_experts = {} in layer {} and {} in layer {}, but {} compares the experts of the layers "
      "that have it; give them the same number, or leave {} out of one of them",
      a.num_experts, a.layer, b.num_experts, b.layer, in_a.spec->name, in_a.spec->name);
}

}  // namespace

const Piece* find_piece(const std::vector<Piece>& pieces, std::string_view name) {
  const auto it = std::ranges::find(pieces, name, &Piece::name);
  return it == pieces.end() ? nullptr : &*it;
}

std::vector<std::string> network_problems(const std::vector<RoutedLayer>& layers) {
  Problems problems;
  struct First {
    const RoutedLayer* layer;
    KnownPiece piece;
  };
  std::map<const Spec*, First> first;
  for (const RoutedLayer& layer : layers) {
    for (const KnownPiece& known : pieces_of(*layer.router)) {
      const auto [it, is_new] = first.try_emplace(known.spec, First{&layer, known});
      if (!is_new) check_agreement(*it->second.layer, it->second.piece, layer, known, problems);
    }
  }
  return problems.take();
}

namespace {

/// What the specifications of the pieces say about one another and about their own parameters.
void check_pieces(const RouterSpec& spec, Problems& problems) {
  for (const auto& [piece, known] : pieces_of(spec)) {
    problems.expect(
        known->needs_scorer.empty() || known->needs_scorer == spec.scorer.name,
        "{} works with scorer = \"{}\" only, and the scorer is {}; change the scorer or leave {} out",
        piece->name, known->needs_scorer, spec.scorer.name, piece->name);
    for (const Parameter& p : known->parameters) {
      if (p.at_most.empty()) continue;
      const int64_t value = piece->values.integer(p.name), most = piece->values.integer(p.at_most);
      problems.expect(value <= most, "{} = {}, but it can be at most {}, which is {}", p.name, value,
                      p.at_most, most);
    }
  }
}

}  // namespace

std::vector<std::string> router_problems(const RouterSpec& spec, int64_t num_experts) {
  Problems problems;
  problems.expect(num_experts >= 1, "a router needs at least one expert, got {}", num_experts);
  if (num_experts < 1) return problems.take();
  problems.attempt([&] { scorers().at(spec.scorer.name); });
  check_pieces(spec, problems);
  check_scorer(spec, num_experts, problems);
  check_selector(spec, num_experts, problems);
  check_decorators(spec, num_experts, problems);
  check_names(spec.balance, "balance term", balance_terms().names(), problems);
  check_activation(spec, problems);
  check_balance(spec, num_experts, problems);
  return problems.take();
}

std::vector<std::string> router_warnings(const RouterSpec& spec, int64_t num_experts, int64_t num_processes) {
  Problems warnings;
  if (const Piece* broadcast = find_piece(spec.decorators, "broadcast")) {
    const double threshold = broadcast->values.number("threshold"),
                 most = choice::largest_uncertainty(num_experts);
    warnings.expect(
        threshold <= most,
        "[broadcast] threshold = {:g} is above {:g}, the uncertainty of a token that has no preference "
        "among {} experts: none will be broadcast; 1.8 is usual for 8 experts",
        threshold, most, num_experts);
  }
  warnings.expect(
      find_piece(spec.decorators, "data_selection") == nullptr,
      "[data_selection] chooses tokens by comparing a whole sequence, so that what comes later decides "
      "about what comes before: losses of a language model are not comparable, and it can't generate");
  warnings.expect(
      spec.scorer.name != "patch_linear",
      "scorer = \"patch_linear\" chooses for a whole patch, so that what comes later in it decides about "
      "what comes before: losses of a language model are not comparable, and it can't generate");
  for (const Piece& term : spec.balance) {
    if (!term.values.all().contains("buffer")) continue;
    const std::string& scope = term.values.text("scope");
    const bool global = scope == "global_batch" || scope == "mixed" || scope == "shuffled";
    warnings.expect(
        !global || num_processes > 1 || term.values.flag("buffer") || term.values.flag("counting_pass"),
        "[{}] scope = \"{}\" with buffer = false in one process balances each micro-batch by itself, as "
        "scope = \"micro_batch\" does; buffer = true counts the micro-batches of a step together",
        term.name, scope);
  }
  return warnings.take();
}

}  // namespace gatewright
