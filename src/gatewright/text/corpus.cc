#include "gatewright/text/corpus.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "gatewright/base/error.h"
#include "gatewright/base/hash.h"

namespace gatewright {
namespace {

constexpr size_t kMostDomains = 4096;

/// One distinct document with the number in [0, 1) that decides its side.
struct Candidate {
  Document document;
  uint64_t hash = 0;
  double draw = 0;
  bool validation = false;
  double size() const { return static_cast<double>(document.text.size()); }
};

/// Collects documents, each content once.
class Collector {
 public:
  explicit Collector(uint64_t seed) : seed_(seed) {}

  void add(Document document) {
    const Hash128 hash = hash128(document.text);
    if (!seen_.insert(hash).second) {
      ++duplicates_;
      return;
    }
    const auto [domain, is_new] = by_domain_.try_emplace(document.domain);
    require(by_domain_.size() <= kMostDomains,
            "{}: more than {} domains; a domain should be a kind of text, not one document", document.source,
            kMostDomains);
    domain->second.push_back(candidates_.size());
    const double draw = std::ldexp(static_cast<double>(mix_hash(hash.low, seed_) >> 11), -53);
    bytes_ += static_cast<double>(document.text.size());
    candidates_.push_back({.document = std::move(document), .hash = hash.low, .draw = draw});
  }

  std::vector<Candidate>& candidates() { return candidates_; }
  const std::map<std::string, std::vector<size_t>>& by_domain() const { return by_domain_; }
  int64_t duplicates() const { return duplicates_; }
  double bytes() const { return bytes_; }

 private:
  uint64_t seed_;
  std::set<Hash128> seen_;
  std::vector<Candidate> candidates_;
  std::map<std::string, std::vector<size_t>> by_domain_;
  int64_t duplicates_ = 0;
  double bytes_ = 0;
};

/// Where to cut a text so that about `share` of its bytes come after the cut: at the line end nearest to that
/// place (a long text has one within a quarter of its size), else between two characters. 0: it is one
/// character.
size_t cut_position(std::string_view text, double share) {
  if (text.size() < 2) return 0;
  const size_t wanted = static_cast<size_t>(std::lround(static_cast<double>(text.size()) * (1 - share)));
  const size_t target = std::clamp<size_t>(wanted, 1, text.size() - 1);
  const size_t farthest = text.size() / 4 + 4096;
  const size_t before = text.rfind('\n', target - 1) + 1;
  const size_t after = std::min(text.find('\n', target), text.size() - 1) + 1;
  const bool can_before = before > 0 && target - before <= farthest;
  const bool can_after = after < text.size() && after - target <= farthest;
  if (can_before && (!can_after || target - before <= after - target)) return before;
  if (can_after) return after;
  const auto inside_character = [&](size_t i) {
    return (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80;
  };
  size_t cut = target;
  while (cut > 0 && inside_character(cut)) --cut;
  if (cut > 0) return cut;
  for (cut = target; cut < text.size() && inside_character(cut);) ++cut;
  return cut % text.size();
}

/// Marks the validation documents of a domain with at least two.
void split_domain(std::vector<Candidate>& candidates, const std::vector<size_t>& members, double share) {
  const double most = share + 0.3 * (1 - share);
  double total = 0, validation = 0;
  for (size_t i : members) {
    total += candidates[i].size();
    candidates[i].validation = candidates[i].draw < share;
    if (candidates[i].validation) validation += candidates[i].size();
  }
  if (validation > 0 && validation <= total * most) return;
  const auto distance = [&](size_t i) {
    return std::pair(std::abs(candidates[i].size() - share * total), candidates[i].draw);
  };
  const size_t chosen = *std::ranges::min_element(members, {}, distance);
  for (size_t i : members) candidates[i].validation = i == chosen;
}

}  // namespace

Corpus Corpus::read(std::span<const std::filesystem::path> paths, const CorpusOptions& options,
                    const DocumentOptions& document_options) {
  std::vector<Document> documents;
  ReadSummary summary = read_documents(paths, document_options,
                                       [&](Document document) { documents.push_back(std::move(document)); });
  Corpus corpus = from_documents(std::move(documents), options);
  summary.duplicates = corpus.summary_.duplicates;
  corpus.summary_ = std::move(summary);
  return corpus;
}

Corpus Corpus::from_documents(std::vector<Document> documents, const CorpusOptions& options) {
  require(options.validation_share >= 0 && options.validation_share <= 1,
          "the share of validation documents must lie in [0, 1], got {}", options.validation_share);
  Corpus corpus;
  Collector collector(options.seed);
  for (Document& document : documents) {
    if (document.text.empty()) continue;
    ++corpus.summary_.documents;
    corpus.summary_.bytes += static_cast<int64_t>(document.text.size());
    collector.add(std::move(document));
  }
  corpus.summary_.duplicates = collector.duplicates();
  std::vector<Candidate>& candidates = collector.candidates();
  require(!candidates.empty(), "there is no text: every document is empty");
  double share = options.validation_share;
  if (options.most_validation_bytes > 0)
    share = std::min(share, static_cast<double>(options.most_validation_bytes) / collector.bytes());

  const bool whole = share == 0 || share == 1;
  std::map<std::string, int32_t> index;
  for (const auto& [domain, members] : collector.by_domain()) {
    index[domain] = static_cast<int32_t>(corpus.domains_.size());
    corpus.domains_.push_back(domain);
    if (whole || members.size() < 2)
      for (size_t i : members) candidates[i].validation = share == 1;
    else
      split_domain(candidates, members, share);
  }
  for (Candidate& candidate : candidates) {
    const std::string& domain_name = candidate.document.domain;
    const int32_t domain = index[domain_name];
    std::string& text = candidate.document.text;
    corpus.bytes_ += static_cast<int64_t>(text.size());
    uint64_t side = candidate.validation;
    const bool alone = collector.by_domain().at(domain_name).size() == 1;
    if (const size_t cut = !whole && alone ? cut_position(text, share) : 0; cut > 0) {
      side = cut + 1;
      corpus.validation_.push_back({.domain = domain, .text = text.substr(cut)});
      text.resize(cut);
    }
    for (const uint64_t part : {hash_bytes(domain_name), candidate.hash, side})
      corpus.fingerprint_ = mix_hash(corpus.fingerprint_, part);
    (candidate.validation ? corpus.validation_ : corpus.train_)
        .push_back({.domain = domain, .text = std::move(text)});
  }
  return corpus;
}

}  // namespace gatewright
