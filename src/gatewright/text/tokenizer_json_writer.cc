#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <unordered_map>

#include "gatewright/text/byte_alphabet.h"
#include "gatewright/text/tokenizer_json.h"
#include "gatewright/text/tokenizer_model.h"
#include "gatewright/text/utf8.h"

namespace gatewright {
namespace {

/// Longer tokens are reached by no sequence of merges that is worth its size.
constexpr size_t kLongestMerged = 512;

std::string json_text(std::string_view text) {
  // A token need not be UTF-8 (half of a character): what is not is replaced, as readers of JSON would refuse
  // it.
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// One line with a blank after each comma and colon; "type" first.
std::string one_line(const Json& value) {
  if (value.is_object()) {
    std::string text;
    const auto add = [&](const std::string& key, const Json& item) {
      text.append(text.empty() ? "" : ", ").append(json_text(key)).append(": ").append(one_line(item));
    };
    if (const auto type = value.find("type"); type != value.end()) add("type", *type);
    for (auto item = value.begin(); item != value.end(); ++item)
      if (item.key() != "type") add(item.key(), *item);
    return fmt::format("{{{}}}", text);
  }
  if (value.is_array()) {
    std::string text;
    for (const Json& item : value) text.append(text.empty() ? "" : ", ").append(one_line(item));
    return fmt::format("[{}]", text);
  }
  return value.is_string() ? json_text(value.get_ref<const std::string&>()) : value.dump();
}

std::string written_added(const AddedToken& token) {
  return fmt::format(
      R"(    {{"id": {}, "content": {}, "single_word": {}, "lstrip": {}, "rstrip": {}, "normalized": {}, "special": {}}})",
      token.id, json_text(token.content), token.single_word, token.lstrip, token.rstrip, token.normalized,
      token.special);
}

/// The items, one a line, as the inside of a list or object.
template <typename Range, typename Write>
std::string joined_lines(const Range& range, const Write& write) {
  std::string text;
  for (const auto& item : range) {
    text += text.empty() ? "\n" : ",\n";
    text += write(item);
  }
  if (!text.empty()) text += "\n  ";
  return text;
}

std::vector<std::string> names_of(const TokenizerDefinition& definition) {
  std::vector<std::string> names;
  names.reserve(definition.tokens.size());
  const bool bytes = definition.kind == TokenizerKind::kByteLevelBpe;
  for (const std::string& token : definition.tokens) names.push_back(bytes ? to_byte_alphabet(token) : token);
  for (const AddedToken& token : definition.added) names[static_cast<size_t>(token.id)] = token.content;
  return names;
}

size_t character_count(std::string_view text) {
  size_t count = 0;
  for (const char* at = text.data(); at < text.data() + text.size();
       at += decode_utf8(at, text.data() + text.size()).size)
    ++count;
  return count;
}

/// The merges that scores stand for: every pair of tokens whose joined text is a token, the highest score
/// first.
std::vector<BpeMerge> merges_of_scores(const TokenizerDefinition& definition) {
  const AddedIds ids(definition);
  std::unordered_map<std::string_view, int32_t> known;
  for (size_t id = 0; id < definition.tokens.size(); ++id)
    if (!ids.special[id] && !(definition.byte_fallback && byte_of_name(definition.tokens[id])))
      known.emplace(definition.tokens[id], static_cast<int32_t>(id));
  std::vector<BpeMerge> merges;
  for (const auto& [token, id] : known) {
    if (token.size() > kLongestMerged) continue;
    const char* const end = token.data() + token.size();
    for (size_t cut = decode_utf8(token.data(), end).size; cut < token.size();
         cut += decode_utf8(token.data() + cut, end).size) {
      const auto left = known.find(token.substr(0, cut)), right = known.find(token.substr(cut));
      if (left != known.end() && right != known.end()) merges.push_back({left->second, right->second, id});
    }
  }
  const auto order = [&](const BpeMerge& a, const BpeMerge& b) {
    const auto key = [&](const BpeMerge& m) {
      const auto length = [&](int32_t id) {
        return static_cast<int64_t>(character_count(definition.tokens[static_cast<size_t>(id)]));
      };
      return std::tuple(-definition.scores[static_cast<size_t>(m.result)], m.result, -length(m.left), m.left,
                        m.right);
    };
    return key(a) < key(b);
  };
  std::ranges::sort(merges, order);
  return merges;
}

std::string written_vocab(const std::vector<std::string>& names) {
  size_t id = 0;
  return joined_lines(
      names, [&id](const std::string& name) { return fmt::format("      {}: {}", json_text(name), id++); });
}

std::string unknown_name(const TokenizerDefinition& definition, const std::vector<std::string>& names) {
  return definition.unknown ? json_text(names[static_cast<size_t>(*definition.unknown)]) : "null";
}

std::string written_bpe(const TokenizerDefinition& definition, const std::vector<BpeMerge>& merges) {
  const std::vector<std::string> names = names_of(definition);
  // A token that holds a blank cannot stand in "left right".
  const bool pairs = std::ranges::any_of(merges, [&](const BpeMerge& merge) {
    return names[static_cast<size_t>(merge.result)].find(' ') != std::string::npos;
  });
  const std::string listed = joined_lines(merges, [&](const BpeMerge& merge) {
    const std::string& left = names[static_cast<size_t>(merge.left)];
    const std::string& right = names[static_cast<size_t>(merge.right)];
    return pairs ? fmt::format("      [{}, {}]", json_text(left), json_text(right))
                 : fmt::format("      {}", json_text(fmt::format("{} {}", left, right)));
  });
  return fmt::format(R"({{
    "type": "BPE",
    "dropout": null,
    "unk_token": {},
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": {},
    "byte_fallback": {},
    "ignore_merges": {},
    "vocab": {{{}}},
    "merges": [{}]
  }})",
                     unknown_name(definition, names), definition.fuse_unknown, definition.byte_fallback,
                     definition.ignore_merges, written_vocab(names), listed);
}

std::string written_scores(const TokenizerDefinition& definition, std::string_view type) {
  size_t id = 0;
  const std::string vocab = joined_lines(definition.tokens, [&](const std::string& token) {
    return fmt::format("      [{}, {}]", json_text(token), Json(definition.scores[id++]).dump());
  });
  const std::string unknown = definition.unknown ? std::to_string(*definition.unknown) : "null";
  return fmt::format(R"({{
    "type": "{}",
    "unk_id": {},
    "vocab": [{}],
    "byte_fallback": {}
  }})",
                     type, unknown, vocab, definition.byte_fallback);
}

std::string written_word_piece(const TokenizerDefinition& definition) {
  const std::vector<std::string> names = names_of(definition);
  return fmt::format(R"({{
    "type": "WordPiece",
    "unk_token": {},
    "continuing_subword_prefix": {},
    "max_input_chars_per_word": {},
    "vocab": {{{}}}
  }})",
                     unknown_name(definition, names), json_text(definition.continuing_prefix),
                     definition.longest_word, written_vocab(names));
}

std::string written_model(const TokenizerDefinition& definition, bool scores_as_they_are) {
  switch (definition.kind) {
    case TokenizerKind::kScoredBpe:
      return scores_as_they_are ? written_scores(definition, "ScoredBPE")
                                : written_bpe(definition, merges_of_scores(definition));
    case TokenizerKind::kUnigram:
      return written_scores(definition, "Unigram");
    case TokenizerKind::kWordPiece:
      return written_word_piece(definition);
    default:
      return written_bpe(definition, definition.merges);
  }
}

std::string written(const TokenizerDefinition& definition, bool scores_as_they_are) {
  return fmt::format(R"({{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [{}],
  "normalizer": {},
  "pre_tokenizer": {},
  "post_processor": {},
  "decoder": {},
  "model": {}
}}
)",
                     joined_lines(definition.added, written_added), one_line(definition.normalizer),
                     one_line(definition.pre_tokenizer), one_line(definition.post_processor),
                     one_line(definition.decoder), written_model(definition, scores_as_they_are));
}

}  // namespace

std::string write_tokenizer_json(const TokenizerDefinition& definition) { return written(definition, false); }
std::string fingerprinted_json(const TokenizerDefinition& definition) { return written(definition, true); }

std::string write_tokenizer_config(const TokenizerDefinition& definition) {
  const std::vector<std::string> names = names_of(definition);
  OrderedJson config = {{"tokenizer_class", "PreTrainedTokenizerFast"}};
  const auto write = [&](const char* key, const std::optional<int32_t>& id) {
    if (id) config[key] = names[static_cast<size_t>(*id)];
  };
  write("bos_token", definition.begin);
  write("eos_token", definition.end);
  write("unk_token", definition.unknown);
  write("pad_token", definition.padding);
  if (!definition.chat_template.empty()) config["chat_template"] = definition.chat_template;
  return config.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

}  // namespace gatewright
