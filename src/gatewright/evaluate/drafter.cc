#include "gatewright/evaluate/drafter.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "gatewright/base/error.h"

namespace gatewright {

LookupDrafter::LookupDrafter(int64_t longest, int64_t branches) : longest_(longest), branches_(branches) {
  require(longest >= 1, "a lookup compares at least one token, got {}", longest);
  require(branches >= 1, "a draft has at least one branch, got {}", branches);
}

namespace {

/// Where the last `length` tokens of a text stood before; `end` is the place after them.
struct Place {
  size_t length, end;
};

/// The longest first, of equals the last in the text; at most `most` of them.
std::vector<Place> places_of_end(std::span<const int32_t> text, size_t longest, size_t most) {
  std::vector<Place> places;
  size_t whole = 0;
  for (size_t end = text.size() - std::min<size_t>(1, text.size()); end > 0 && whole < most; --end) {
    size_t length = 0;
    while (length < std::min(longest, end) && text[end - 1 - length] == text[text.size() - 1 - length])
      ++length;
    if (length > 0) places.push_back({.length = length, .end = end});
    whole += length == longest ? 1 : 0;
  }
  std::ranges::stable_sort(places, std::greater(), &Place::length);
  places.resize(std::min(places.size(), most));
  return places;
}

}  // namespace

DraftTree LookupDrafter::draft(std::span<const int32_t> text, int64_t most) {
  DraftTree tree;
  const std::vector<Place> places =
      places_of_end(text, static_cast<size_t>(longest_), static_cast<size_t>(branches_));
  for (size_t i = 0; i < places.size(); ++i) {
    // What is left is shared by the places that are left.
    const int64_t room = (most - tree.size()) / static_cast<int64_t>(places.size() - i), before = tree.size();
    int64_t node = -1;
    for (size_t at = places[i].end; at < text.size(); ++at) {
      if (tree.child(node, text[at]) < 0 && tree.size() - before >= room) break;
      node = tree.add(node, text[at]);
    }
  }
  return tree;
}

ModelDrafter::ModelDrafter(Decoder& model, const DraftBranches& branches)
    : model_(model), branches_(branches) {
  require(branches.branches >= 1 && branches.depth >= 1,
          "a draft has at least one branch and one level, got {} and {}", branches.branches, branches.depth);
  require(branches.branches * (branches.depth - 1) < kLargestTokenTree,
          "a draft of {} branches and {} levels is too large: branches x (levels - 1) must be below {}",
          branches.branches, branches.depth, kLargestTokenTree);
}

namespace {

struct Proposal {
  int32_t token = 0;
  double log_probability = 0;
};

/// The most likely tokens, ties to the lower id.
std::vector<Proposal> most_likely(std::span<const float> logits, size_t count) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  count = std::min(count, ids.size());
  const auto before = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::ranges::partial_sort(ids, ids.begin() + static_cast<std::ptrdiff_t>(count), before);
  const double largest = logits[static_cast<size_t>(ids[0])];
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  std::vector<Proposal> best;
  for (size_t i = 0; i < count; ++i)
    best.push_back(
        {.token = ids[i], .log_probability = logits[static_cast<size_t>(ids[i])] - largest - std::log(sum)});
  return best;
}

/// The `count` largest of values[i] for i from `first` on, ties to the lower index, ascending.
std::vector<int64_t> largest(std::span<const double> values, int64_t first, int64_t count) {
  std::vector<int64_t> index(values.size() - static_cast<size_t>(first));
  std::iota(index.begin(), index.end(), first);
  std::ranges::stable_sort(index, std::greater(), [&](int64_t i) { return values[static_cast<size_t>(i)]; });
  index.resize(std::min(index.size(), static_cast<size_t>(count)));
  std::ranges::sort(index);
  return index;
}

/// The tree of these tokens of `all`, among which every parent is.
DraftTree part_of(const DraftTree& all, std::span<const int64_t> kept) {
  DraftTree part;
  for (const int64_t i : kept) {
    const int64_t parent = all.parents[static_cast<size_t>(i)];
    part.tokens.push_back(all.tokens[static_cast<size_t>(i)]);
    part.parents.push_back(parent < 0 ? -1 : std::ranges::find(kept, parent) - kept.begin());
  }
  return part;
}

DraftTree chain_of(std::vector<int32_t> tokens) {
  DraftTree chain{.tokens = std::move(tokens)};
  for (int64_t i = 0; i < std::ssize(chain.tokens); ++i) chain.parents.push_back(i - 1);
  return chain;
}

}  // namespace

DraftTree ModelDrafter::draft(std::span<const int32_t> text, int64_t most) {
  if (most <= 0) return {};
  if (branches_.branches == 1)
    return chain_of(generate(model_, text, {.max_tokens = most, .sampling = {.temperature = 0}}));
  DraftTree proposed;
  std::vector<double> log_probability;  // of each proposed token's path
  std::vector<int64_t> going_on;        // those that have children, ascending
  for (int64_t level = 0; level < std::min(branches_.depth, most); ++level) {
    const std::span<const float> logits = model_.logits_with(text, part_of(proposed, going_on));
    if (logits.empty()) return {};
    const size_t vocabulary = logits.size() / (going_on.size() + 1);
    const int64_t before = proposed.size();
    // The nodes of the last level, or the end of the text; those of levels before have their children.
    for (size_t row = 0; row <= going_on.size(); ++row) {
      const int64_t node = row == 0 ? -1 : going_on[row - 1];
      if (std::ranges::count(proposed.parents, node) > 0) continue;
      const double so_far = node < 0 ? 0 : log_probability[static_cast<size_t>(node)];
      for (const Proposal& p : most_likely(logits.subspan(row * vocabulary, vocabulary),
                                           static_cast<size_t>(branches_.branches))) {
        proposed.add(node, p.token);
        log_probability.push_back(so_far + p.log_probability);
      }
    }
    const std::vector<int64_t> next = largest(log_probability, before, branches_.branches);
    going_on.insert(going_on.end(), next.begin(), next.end());
  }
  return part_of(proposed, largest(log_probability, 0, most));
}

}  // namespace gatewright
