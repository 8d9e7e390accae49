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
#include "gatewright/text/pre_tokenizer.h"

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

class DefinitionReader {
 public:
  explicit DefinitionReader(std::string_view what) : what_(what) {}

  TokenizerDefinition read(const Json& root) {
    require(root.is_object(), "{}: a tokenizer.json holds an object, this one {}", what_, root.type_name());
    const Json& model = member(root, "model");
    require(model.is_object(), "{}: a tokenizer.json has an object 'model', here it is {}", what_,
            model.type_name());
    made_.normalizer = member(root, "normalizer");
    made_.pre_tokenizer = member(root, "pre_tokenizer");
    made_.post_processor = member(root, "post_processor");
    made_.decoder = member(root, "decoder");
    read_added(member(root, "added_tokens"));
    read_model(model);
    return std::move(made_);
  }

 private:
  /// Files of 2019 and 2020 do not write the type of a BPE model.
  void read_model(const Json& model) {
    const Json& type = member(model, "type");
    if (type == "BPE" || (type.is_null() && model.contains("merges"))) return read_bpe(model);
    if (type == "Unigram") return read_unigram(model);
    if (type == "WordPiece") return read_word_piece(model);
    fail("{}: the model is {}; read are \"BPE\", \"Unigram\" and \"WordPiece\"", what_, type_of(model));
  }

  void read_bpe(const Json& model) {
    allow(model, {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                  "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
    const bool byte_level = PreTokenizer(made_.pre_tokenizer, what_).byte_level();
    made_.kind = byte_level ? TokenizerKind::kByteLevelBpe : TokenizerKind::kBpe;
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const Json& value = member(model, key);
      require(value.is_null() || value == "", "{}: model.{} is not supported for BPE", what_, key);
    }
    const Json& dropout = member(model, "dropout");
    require(dropout.is_null() || dropout == 0, "{}: model.dropout is not supported", what_);
    made_.byte_fallback = model_flag(model, "byte_fallback");
    require(!made_.byte_fallback || !byte_level,
            "{}: model.byte_fallback is not supported for byte-level BPE", what_);
    made_.fuse_unknown = model_flag(model, "fuse_unk");
    made_.ignore_merges = model_flag(model, "ignore_merges");
    read_vocab(member(model, "vocab"));
    read_unknown(model);
    read_merges(member(model, "merges"));
  }

  void read_word_piece(const Json& model) {
    allow(model, {"type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"});
    made_.kind = TokenizerKind::kWordPiece;
    const Json& prefix = member(model, "continuing_subword_prefix");
    require(prefix.is_null() || prefix.is_string(), "{}: model.continuing_subword_prefix must be a text",
            what_);
    made_.continuing_prefix = prefix.is_null() ? "##" : prefix.get<std::string>();
    const Json& longest = member(model, "max_input_chars_per_word");
    require(longest.is_null() || (longest.is_number_integer() && longest > 0 && longest <= INT32_MAX),
            "{}: model.max_input_chars_per_word must be a whole number from 1 on", what_);
    if (!longest.is_null()) made_.longest_word = longest.get<int64_t>();
    read_vocab(member(model, "vocab"));
    read_unknown(model);
  }

  void read_unigram(const Json& model) {
    allow(model, {"type", "unk_id", "vocab", "byte_fallback"});
    made_.kind = TokenizerKind::kUnigram;
    made_.byte_fallback = model_flag(model, "byte_fallback");
    made_.fuse_unknown = true;
    const Json& vocab = member(model, "vocab");
    require(vocab.is_array(), "{}: model.vocab must be a list of tokens and scores, it is {}", what_,
            vocab.type_name());
    for (const Json& item : vocab) {
      require(item.is_array() && item.size() == 2 && item[0].is_string() && item[1].is_number(),
              "{}: token {} of model.vocab is not a text and a score", what_, made_.tokens.size());
      made_.tokens.push_back(item[0].get<std::string>());
      made_.scores.push_back(item[1].get<double>());
    }
    for (const AddedToken& token : made_.added) {
      const auto at = static_cast<size_t>(token.id);
      require(at <= made_.tokens.size(),
              "{}: the added token {} has id {}, but there are {} tokens before it", what_,
              Quoted{token.content}, token.id, made_.tokens.size());
      if (at == made_.tokens.size()) {
        made_.tokens.push_back(token.content);
        made_.scores.push_back(0);
      }
      require(made_.tokens[at] == token.content, "{}: the tokens {} and {} have the same id {}", what_,
              Quoted{made_.tokens[at]}, Quoted{token.content}, at);
    }
    const Json& unknown = member(model, "unk_id");
    if (!unknown.is_null()) made_.unknown = id(unknown, "unk_id");
  }

  void allow(const Json& model, std::initializer_list<std::string_view> keys) const {
    for (auto item = model.begin(); item != model.end(); ++item)
      require(std::ranges::find(keys, item.key()) != keys.end(), "{}: model.{} is not known", what_,
              item.key());
  }

  bool model_flag(const Json& model, const char* key) const {
    const Json& value = member(model, key);
    require(value.is_null() || value.is_boolean(), "{}: model.{} must be true or false", what_, key);
    return value == true;
  }

  void read_unknown(const Json& model) {
    const Json& name = member(model, "unk_token");
    if (name.is_null()) return;
    require(name.is_string(), "{}: model.unk_token must be a text, it is {}", what_, name.type_name());
    const auto found = ids_.find(name.get_ref<const std::string&>());
    require(found != ids_.end(), "{}: model.unk_token is {}, which the vocabulary does not have", what_,
            Quoted{name.get_ref<const std::string&>()});
    made_.unknown = found->second;
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
      token.single_word = flag(item, "single_word");
      token.lstrip = flag(item, "lstrip");
      token.rstrip = flag(item, "rstrip");
      token.normalized = flag(item, "normalized");
      made_.added.push_back(std::move(token));
    }
    std::ranges::sort(made_.added, {}, &AddedToken::id);
  }

  bool flag(const Json& item, const char* key) const {
    const Json& value = member(item, key);
    require(value.is_null() || value.is_boolean(), "{}: added_tokens: {} must be true or false", what_, key);
    return value == true;
  }

  /// Ids have at most as many values as the file has tokens, so the largest is bounded by the file.
  int32_t id(const Json& value, std::string_view token) const {
    if (!value.is_number_integer() || value < 0 || value > INT32_MAX)
      fail("{}: the id of the token {} must be a whole number from 0 on, it is {}", what_, Quoted{token},
           value.is_number() ? value.dump() : value.type_name());
    return value.get<int32_t>();
  }

  void read_vocab(const Json& vocab) {
    require(vocab.is_object(), "{}: model.vocab must be an object of ids by token, it is {}", what_,
            vocab.type_name());
    std::unordered_map<std::string_view, int32_t> added;
    for (const AddedToken& token : made_.added)
      require(added.emplace(token.content, token.id).second, "{}: the added token {} is there twice", what_,
              Quoted{token.content});
    size_t count = vocab.size();
    for (const AddedToken& token : made_.added) count += !vocab.contains(token.content);
    made_.tokens.resize(count);
    ids_.reserve(count);
    for (auto item = vocab.begin(); item != vocab.end(); ++item) {
      const std::string& name = item.key();
      const int32_t token_id = id(*item, name);
      const auto found = added.find(name);
      if (found == added.end()) {
        put(token_id, token_of(name));
      } else {
        require(found->second == token_id, "{}: the added token {} has id {} and id {}", what_, Quoted{name},
                found->second, token_id);
      }
      ids_.emplace(name, token_id);
    }
    for (const AddedToken& token : made_.added) {
      put(token.id, token.content);
      ids_.emplace(token.content, token.id);
    }
  }

  std::string token_of(const std::string& name) const {
    if (made_.kind != TokenizerKind::kByteLevelBpe) return name;
    std::optional<std::string> bytes = from_byte_alphabet(name);
    require(bytes && !bytes->empty(), "{}: the token {} is not made of byte-level characters", what_,
            Quoted{name});
    return std::move(*bytes);
  }

  /// Each id once, and as many ids as tokens: then there are no holes.
  void put(int32_t token_id, std::string bytes) {
    const auto at = static_cast<size_t>(token_id);
    require(at < made_.tokens.size(),
            "{}: the token {} has id {}, but {} tokens have ids 0 to {} without holes", what_, Quoted{bytes},
            token_id, made_.tokens.size(), made_.tokens.size() - 1);
    require(!bytes.empty(), "{}: the token of id {} is empty", what_, token_id);
    require(made_.tokens[at].empty(), "{}: the tokens {} and {} have the same id {}", what_,
            Quoted{made_.tokens[at]}, Quoted{bytes}, token_id);
    made_.tokens[at] = std::move(bytes);
  }

  void read_merges(const Json& merges) {
    require(merges.is_array(), "{}: model.merges must be a list, it is {}", what_, merges.type_name());
    made_.merges.reserve(merges.size());
    for (const Json& item : merges) {
      const auto [left, right] = merge_pair(item);
      made_.merges.push_back({.left = merge_token(left),
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
    fail("{}: merge {} is neither \"left right\" nor [\"left\", \"right\"]", what_, made_.merges.size());
  }

  int32_t merge_token(std::string_view name) const {
    const auto found = ids_.find(name);
    require(found != ids_.end(), "{}: merge {} needs the token {}, which the vocabulary does not have", what_,
            made_.merges.size(), Quoted{name});
    return found->second;
  }

  std::string what_;
  TokenizerDefinition made_;
  std::unordered_map<std::string_view, int32_t> ids_;  // by their names in the file, which outlives them
};

/// "bos_token": a text, or an object with a text 'content'.
std::optional<std::string> configured_token(const Json& config, const char* key, std::string_view what) {
  const Json& value = member(config, key);
  if (value.is_null()) return std::nullopt;
  const Json& content = value.is_object() ? member(value, "content") : value;
  require(content.is_string(), "{}: {} must be a text or an object with a text 'content'", what, key);
  return content.get<std::string>();
}

std::string configured_template(const Json& value, std::string_view what) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  require(value.is_array(), "{}: chat_template must be a text or a list of named ones", what);
  for (const Json& item : value) {
    require(item.is_object() && member(item, "name").is_string() && member(item, "template").is_string(),
            "{}: each of chat_template has a 'name' and a 'template'", what);
    if (item["name"] == "default") return item["template"].get<std::string>();
  }
  return "";
}

}  // namespace

TokenizerDefinition read_tokenizer_json(std::string_view json, std::string_view what) {
  return DefinitionReader(what).read(parse_json(json, what));
}

void read_tokenizer_config(std::string_view json, std::string_view what, TokenizerDefinition& definition) {
  const Json config = parse_json(json, what);
  require(config.is_object(), "{}: a tokenizer_config.json holds an object, this one {}", what,
          config.type_name());
  const auto read = [&](const char* key, std::optional<int32_t>& id) {
    const std::optional<std::string> name = configured_token(config, key, what);
    if (!name) return;
    // A token that the vocabulary does not have is one that the model does not know.
    for (const AddedToken& added : definition.added)
      if (added.content == *name) return static_cast<void>(id = added.id);
    const auto found = std::ranges::find(definition.tokens, *name);
    if (found != definition.tokens.end()) id = static_cast<int32_t>(found - definition.tokens.begin());
  };
  read("bos_token", definition.begin);
  read("eos_token", definition.end);
  read("pad_token", definition.padding);
  if (!definition.unknown) read("unk_token", definition.unknown);
  std::string chat = configured_template(member(config, "chat_template"), what);
  if (!chat.empty()) definition.chat_template = std::move(chat);
}

}  // namespace gatewright
