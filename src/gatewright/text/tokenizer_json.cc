#include "gatewright/text/tokenizer_json.h"

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "gatewright/base/error.h"
#include "gatewright/base/json.h"
#include "gatewright/base/quoted.h"
#include "gatewright/text/byte_alphabet.h"

namespace gatewright {
namespace {

/// The member, or null when it is absent.
const Json& member(const Json& object, const char* key) {
  static const Json null;
  const auto it = object.find(key);
  return it == object.end() ? null : *it;
}

std::string type_of(const Json& part) {
  const Json& type = member(part, "type");
  if (!type.is_string()) return "without a type";
  return fmt::format("{}", Quoted{type.get_ref<const std::string&>()});
}

class Reader {
 public:
  explicit Reader(std::string_view what) : what_(what) {}

  BpeVocabulary read(const Json& root) {
    require(root.is_object(), "{}: a tokenizer.json holds an object, this one {}", what_, root.type_name());
    const Json& model = member(root, "model");
    require(model.is_object(), "{}: a tokenizer.json has an object 'model', here it is {}", what_,
            model.type_name());
    check_model(model);
    check_pieces(root);
    read_added(member(root, "added_tokens"));
    read_vocab(member(model, "vocab"));
    read_merges(member(model, "merges"));
    return std::move(vocabulary_);
  }

 private:
  /// Files of 2019 and 2020 do not write the type of a BPE model.
  void check_model(const Json& model) const {
    const Json& type = member(model, "type");
    require(type == "BPE" || (type.is_null() && model.contains("merges")),
            "{}: the model is {}; read are byte-level \"BPE\" models", what_, type_of(model));
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const Json& value = member(model, key);
      require(value.is_null() || value == "", "{}: model.{} is not supported for byte-level BPE", what_, key);
    }
    for (const char* key : {"byte_fallback", "ignore_merges"}) {
      const Json& value = member(model, key);
      require(value.is_null() || value == false, "{}: model.{} is not supported", what_, key);
    }
    const Json& dropout = member(model, "dropout");
    require(dropout.is_null() || dropout == 0, "{}: model.dropout is not supported", what_);
  }

  void check_pieces(const Json& root) const {
    const Json& normalizer = member(root, "normalizer");
    require(normalizer.is_null(),
            "{}: the normalizer {} is not supported: byte-level BPE keeps the text as it is", what_,
            normalizer.is_object() ? type_of(normalizer) : normalizer.type_name());
    const auto is_byte_level = [](const Json& part) {
      return part.is_object() && member(part, "type") == "ByteLevel";
    };
    const Json& cutter = member(root, "pre_tokenizer");
    require(is_byte_level(cutter), "{}: the pre_tokenizer is {}; read is \"ByteLevel\"", what_,
            cutter.is_object() ? type_of(cutter) : cutter.type_name());
    require(
        member(cutter, "add_prefix_space") == false,
        "{}: pre_tokenizer.add_prefix_space must be false: a space that the text does not have is not added",
        what_);
    const Json& regex = member(cutter, "use_regex");
    require(regex.is_null() || regex == true, "{}: pre_tokenizer.use_regex must be true", what_);
    const Json& decoder = member(root, "decoder");
    require(decoder.is_null() || is_byte_level(decoder), "{}: the decoder must be \"ByteLevel\"", what_);
    const Json& post = member(root, "post_processor");
    require(post.is_null() || is_byte_level(post),
            "{}: the post_processor {} is not supported: begin and end tokens are not added", what_,
            post.is_object() ? type_of(post) : post.type_name());
  }

  void read_added(const Json& list) {
    if (list.is_null()) return;
    require(list.is_array(), "{}: added_tokens must be a list, it is {}", what_, list.type_name());
    for (const Json& item : list) {
      require(item.is_object() && member(item, "content").is_string(),
              "{}: each of added_tokens is an object with a text 'content'", what_);
      AddedToken token{.id = 0, .content = item["content"].get<std::string>()};
      token.id = id(member(item, "id"), token.content);
      token.special = flag(item, "special");
      require(token.special, "{}: the added token {} is not special; such tokens are not supported", what_,
              Quoted{token.content});
      token.single_word = flag(item, "single_word");
      token.lstrip = flag(item, "lstrip");
      token.rstrip = flag(item, "rstrip");
      token.normalized = flag(item, "normalized");
      vocabulary_.added.push_back(std::move(token));
    }
    std::ranges::sort(vocabulary_.added, {}, &AddedToken::id);
  }

  bool flag(const Json& item, const char* key) const {
    const Json& value = member(item, key);
    require(value.is_null() || value.is_boolean(), "{}: added_tokens: {} must be true or false", what_, key);
    return value == true;
  }

  /// Ids have at most as many values as the file has tokens, so the largest is bounded by the file.
  int32_t id(const Json& value, const std::string& token) const {
    if (!value.is_number_integer() || value < 0 || value > INT32_MAX)
      fail("{}: the id of the token {} must be a whole number from 0 on, it is {}", what_, Quoted{token},
           value.is_number() ? value.dump() : value.type_name());
    return value.get<int32_t>();
  }

  void read_vocab(const Json& vocab) {
    require(vocab.is_object(), "{}: model.vocab must be an object of ids by token, it is {}", what_,
            vocab.type_name());
    std::unordered_map<std::string_view, int32_t> added;
    for (const AddedToken& token : vocabulary_.added)
      require(added.emplace(token.content, token.id).second, "{}: the added token {} is there twice", what_,
              Quoted{token.content});
    size_t count = vocab.size();
    for (const AddedToken& token : vocabulary_.added) count += !vocab.contains(token.content);
    vocabulary_.tokens.resize(count);
    ids_.reserve(count);
    for (auto item = vocab.begin(); item != vocab.end(); ++item) {
      const std::string& name = item.key();
      const int32_t token_id = id(*item, name);
      const auto found = added.find(name);
      if (found == added.end()) {
        std::optional<std::string> bytes = from_byte_alphabet(name);
        require(bytes && !bytes->empty(), "{}: the token {} is not made of byte-level characters", what_,
                Quoted{name});
        put(token_id, std::move(*bytes));
      } else {
        require(found->second == token_id, "{}: the added token {} has id {} and id {}", what_, Quoted{name},
                found->second, token_id);
      }
      ids_.emplace(name, token_id);
    }
    for (const AddedToken& token : vocabulary_.added) put(token.id, token.content);
  }

  /// Each id once, and as many ids as tokens: then there are no holes.
  void put(int32_t token_id, std::string bytes) {
    const auto at = static_cast<size_t>(token_id);
    require(at < vocabulary_.tokens.size(),
            "{}: the token {} has id {}, but {} tokens have ids 0 to {} without holes", what_, Quoted{bytes},
            token_id, vocabulary_.tokens.size(), vocabulary_.tokens.size() - 1);
    require(!bytes.empty(), "{}: the token of id {} is empty", what_, token_id);
    require(vocabulary_.tokens[at].empty(), "{}: the tokens {} and {} have the same id {}", what_,
            Quoted{vocabulary_.tokens[at]}, Quoted{bytes}, token_id);
    vocabulary_.tokens[at] = std::move(bytes);
  }

  void read_merges(const Json& merges) {
    require(merges.is_array(), "{}: model.merges must be a list, it is {}", what_, merges.type_name());
    vocabulary_.merges.reserve(merges.size());
    for (const Json& item : merges) {
      const auto [left, right] = merge_pair(item);
      vocabulary_.merges.push_back({.left = merge_token(left),
                                    .right = merge_token(right),
                                    .result = merge_token(std::string(left).append(right))});
    }
  }

  /// "left right" or ["left", "right"].
  std::pair<std::string_view, std::string_view> merge_pair(const Json& item) const {
    const auto text_of = [](const Json& value) -> std::string_view {
      return value.get_ref<const std::string&>();
    };
    if (item.is_array() && item.size() == 2 && item[0].is_string() && item[1].is_string())
      return {text_of(item[0]), text_of(item[1])};
    if (item.is_string()) {
      const std::string_view text = text_of(item);
      const size_t space = text.find(' ');
      if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos)
        return {text.substr(0, space), text.substr(space + 1)};
    }
    fail("{}: merge {} is neither \"left right\" nor [\"left\", \"right\"]", what_,
         vocabulary_.merges.size());
  }

  int32_t merge_token(std::string_view name) const {
    const auto found = ids_.find(name);
    require(found != ids_.end(), "{}: merge {} needs the token {}, which the vocabulary does not have", what_,
            vocabulary_.merges.size(), Quoted{name});
    return found->second;
  }

  std::string what_;
  BpeVocabulary vocabulary_;
  std::unordered_map<std::string_view, int32_t> ids_;  // by their names in the file, which outlives them
};

std::string json_text(std::string_view text) { return Json(text).dump(); }

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

}  // namespace

BpeVocabulary read_tokenizer_json(std::string_view json, std::string_view what) {
  return Reader(what).read(parse_json(json, what));
}

std::string write_tokenizer_json(const BpeVocabulary& vocabulary) {
  std::vector<std::string> names;
  names.reserve(vocabulary.tokens.size());
  for (const std::string& token : vocabulary.tokens) names.push_back(to_byte_alphabet(token));
  for (const AddedToken& token : vocabulary.added) names[static_cast<size_t>(token.id)] = token.content;

  size_t id = 0;
  const std::string added = joined_lines(vocabulary.added, written_added);
  const std::string vocab = joined_lines(
      names, [&id](const std::string& name) { return fmt::format("      {}: {}", json_text(name), id++); });
  const std::string merges = joined_lines(vocabulary.merges, [&names](const BpeMerge& merge) {
    return "      " +
           json_text(names[static_cast<size_t>(merge.left)] + " " + names[static_cast<size_t>(merge.right)]);
  });
  return fmt::format(R"({{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [{}],
  "normalizer": null,
  "pre_tokenizer": {{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}},
  "post_processor": null,
  "decoder": {{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}},
  "model": {{
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": false,
    "vocab": {{{}}},
    "merges": [{}]
  }}
}}
)",
                     added, vocab, merges);
}

}  // namespace gatewright
