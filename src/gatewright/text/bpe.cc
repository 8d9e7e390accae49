#include "gatewright/text/bpe.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "gatewright/base/error.h"
#include "gatewright/text/quoted.h"

namespace gatewright {
namespace {

/// Up to this many bytes a word is merged by looking at all its pairs each time, which is faster than a heap.
constexpr size_t kShortWord = 48;

std::vector<bool> added_ids(const BpeVocabulary& vocabulary) {
  std::vector<bool> added(vocabulary.tokens.size());
  for (const AddedToken& token : vocabulary.added) added[static_cast<size_t>(token.id)] = true;
  return added;
}

void check_merge(const BpeVocabulary& vocabulary, const std::vector<bool>& added, size_t rank,
                 std::string_view what) {
  const BpeMerge& merge = vocabulary.merges[rank];
  const auto known = [&](int32_t id) {
    return id >= 0 && static_cast<size_t>(id) < vocabulary.tokens.size();
  };
  require(known(merge.left) && known(merge.right) && known(merge.result),
          "{}: merge {} names a token that the vocabulary does not have", what, rank);
  const auto token = [&](int32_t id) -> const std::string& {
    return vocabulary.tokens[static_cast<size_t>(id)];
  };
  const std::string& left = token(merge.left);
  const std::string& right = token(merge.right);
  const std::string& result = token(merge.result);
  require(result.size() == left.size() + right.size() && result.starts_with(left) && result.ends_with(right),
          "{}: merge {} joins {} and {} to {}", what, rank, Quoted{left}, Quoted{right}, Quoted{result});
  for (const int32_t id : {merge.left, merge.right, merge.result})
    require(!added[static_cast<size_t>(id)], "{}: merge {} uses the added token {}", what, rank,
            Quoted{token(id)});
}

}  // namespace

BpeMerger::BpeMerger(const BpeVocabulary& vocabulary, std::string_view what)
    : table_(vocabulary.merges.size()) {
  const std::vector<bool> added = added_ids(vocabulary);
  byte_token_.fill(-1);
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string& token = vocabulary.tokens[id];
    if (token.size() == 1 && !added[id])
      byte_token_[static_cast<uint8_t>(token[0])] = static_cast<int32_t>(id);
  }
  for (size_t byte = 0; byte < 256; ++byte)
    require(byte_token_[byte] >= 0,
            "{}: the vocabulary has no token for the byte {:#04x}; a byte-level vocabulary needs all 256",
            what, byte);
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    check_merge(vocabulary, added, rank, what);
    const BpeMerge& merge = vocabulary.merges[rank];
    const Merged merged{.rank = static_cast<int32_t>(rank), .result = merge.result};
    require(table_.insert(merge.left, merge.right, merged).is_new, "{}: merge {} repeats an earlier one",
            what, rank);
  }
}

void BpeMerger::encode_word(std::string_view word, std::vector<int32_t>& out) const {
  word.size() <= kShortWord ? encode_short(word, out) : encode_long(word, out);
}

void BpeMerger::encode_short(std::string_view word, std::vector<int32_t>& out) const {
  std::array<int32_t, kShortWord> ids;
  std::array<Merged, kShortWord> pairs;  // pairs[i]: ids[i] with ids[i + 1]
  size_t count = word.size();
  for (size_t i = 0; i < count; ++i) ids[i] = byte_token_[static_cast<uint8_t>(word[i])];
  for (size_t i = 0; i + 1 < count; ++i) pairs[i] = merged(ids[i], ids[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (pairs[i].rank < pairs[best].rank) best = i;
    if (pairs[best].rank == kNever) break;
    ids[best] = pairs[best].result;
    std::copy(ids.begin() + best + 2, ids.begin() + count, ids.begin() + best + 1);
    std::copy(pairs.begin() + best + 1, pairs.begin() + (count - 1), pairs.begin() + best);
    --count;
    if (best > 0) pairs[best - 1] = merged(ids[best - 1], ids[best]);
    if (best + 1 < count) pairs[best] = merged(ids[best], ids[best + 1]);
  }
  out.insert(out.end(), ids.begin(), ids.begin() + count);
}

/// Tokens live at the place of their first byte, linked in both directions; a heap holds (rank, place) of
/// every pair that can merge, and an entry that no longer holds is dropped when its turn comes.
void BpeMerger::encode_long(std::string_view word, std::vector<int32_t>& out) const {
  require(word.size() < UINT32_MAX, "cannot encode a word of {} bytes: the limit is {}", word.size(),
          UINT32_MAX);
  const auto count = static_cast<uint32_t>(word.size());
  std::vector<int32_t> ids(count);
  std::vector<uint32_t> next(count), previous(count);
  for (uint32_t i = 0; i < count; ++i) {
    ids[i] = byte_token_[static_cast<uint8_t>(word[i])];
    next[i] = i + 1;
    previous[i] = i - 1;  // the first: UINT32_MAX
  }
  std::vector<uint64_t> entries;
  const auto entry = [](Merged pair, uint32_t place) { return uint64_t(pair.rank) << 32 | place; };
  for (uint32_t i = 0; i + 1 < count; ++i)
    if (const Merged pair = merged(ids[i], ids[i + 1]); pair.rank != kNever)
      entries.push_back(entry(pair, i));
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> heap(std::greater<>{},
                                                                            std::move(entries));
  const auto offer = [&](uint32_t left, uint32_t right) {
    if (const Merged pair = merged(ids[left], ids[right]); pair.rank != kNever) heap.push(entry(pair, left));
  };
  while (!heap.empty()) {
    const uint64_t top = heap.top();
    heap.pop();
    const auto left = static_cast<uint32_t>(top);
    const uint32_t right = next[left];
    if (ids[left] < 0 || right == count) continue;
    const Merged pair = merged(ids[left], ids[right]);
    if (entry(pair, left) != top) continue;
    ids[left] = pair.result;
    ids[right] = -1;
    next[left] = next[right];
    if (next[left] < count) {
      previous[next[left]] = left;
      offer(left, next[left]);
    }
    if (previous[left] != UINT32_MAX) offer(previous[left], left);
  }
  for (const int32_t id : ids)
    if (id >= 0) out.push_back(id);
}

}  // namespace gatewright
