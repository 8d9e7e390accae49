#include "gatewright/text/post_processor.h"

#include <map>

#include "gatewright/text/json_part.h"

namespace gatewright {
namespace {

int32_t id_of(const Json& value, int64_t vocab_size, const JsonPart& part) {
  if (!value.is_number_integer() || value < 0 || value >= vocab_size)
    fail("{}: {} names the token id {}, the vocabulary has ids 0 to {}", part.what(), part.path(),
         value.dump().substr(0, 40), vocab_size - 1);
  return value.get<int32_t>();
}

/// ids by the names of a template's special tokens.
std::map<std::string, std::vector<int32_t>> special_tokens(const JsonPart& part, int64_t vocab_size) {
  std::map<std::string, std::vector<int32_t>> ids;
  const Json& tokens = part.member("special_tokens");
  require(tokens.is_object(), "{}: {}.special_tokens must be an object, it is {}", part.what(), part.path(),
          tokens.type_name());
  for (auto item = tokens.begin(); item != tokens.end(); ++item) {
    require(item->is_object() && item->contains("ids") && item->at("ids").is_array(),
            "{}: {}.special_tokens: {} needs a list 'ids'", part.what(), part.path(), Quoted{item.key()});
    for (const Json& id : item->at("ids")) ids[item.key()].push_back(id_of(id, vocab_size, part));
  }
  return ids;
}

PostProcessor read_template(const JsonPart& part, int64_t vocab_size) {
  part.allow({"single", "pair", "special_tokens"});
  const auto special = special_tokens(part, vocab_size);
  PostProcessor made;
  bool text_seen = false;
  for (const Json& item : part.list("single")) {
    const bool known = item.is_object() && item.size() == 1 && item.begin()->is_object() &&
                       item.begin()->contains("id") && item.begin()->at("id").is_string();
    require(known, "{}: {}.single holds SpecialToken and Sequence, each with an 'id'", part.what(),
            part.path());
    const std::string id = item.begin()->at("id").get<std::string>();
    if (item.begin().key() == "Sequence") {
      require(!text_seen && id == "A", "{}: {}.single must hold the text A once", part.what(), part.path());
      text_seen = true;
      continue;
    }
    const auto found = special.find(id);
    require(item.begin().key() == "SpecialToken" && found != special.end(),
            "{}: {}.single names {}, which is none of its special tokens", part.what(), part.path(),
            Quoted{id});
    std::vector<int32_t>& side = text_seen ? made.after : made.before;
    side.insert(side.end(), found->second.begin(), found->second.end());
  }
  require(text_seen, "{}: {}.single does not hold the text", part.what(), part.path());
  return made;
}

/// ["[CLS]", 101]
int32_t pair_id(const JsonPart& part, const char* key, int64_t vocab_size) {
  const Json& pair = part.list(key);
  require(pair.size() == 2, "{}: {}.{} must be a token and its id", part.what(), part.path(), key);
  return id_of(pair[1], vocab_size, part);
}

PostProcessor read_part(const JsonPart& part, int64_t vocab_size, int depth) {
  require(depth < kDeepestPart, "{}: {} is too deep", part.what(), part.path());
  const std::string& type = part.type();
  if (type == "TemplateProcessing") return read_template(part, vocab_size);
  if (type == "ByteLevel") {
    part.allow({"add_prefix_space", "trim_offsets", "use_regex"});
    return {};
  }
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    if (type == "BertProcessing")
      part.allow({"sep", "cls"});
    else
      part.allow({"sep", "cls", "trim_offsets", "add_prefix_space"});
    return {.before = {pair_id(part, "cls", vocab_size)}, .after = {pair_id(part, "sep", vocab_size)}};
  }
  if (type != "Sequence") part.fail_unknown();
  part.allow({"processors"});
  PostProcessor all;
  size_t i = 0;
  for (const Json& item : part.list("processors")) {
    const PostProcessor one = read_part(part.child(item, "processors", i++), vocab_size, depth + 1);
    all.before.insert(all.before.begin(), one.before.begin(), one.before.end());
    all.after.insert(all.after.end(), one.after.begin(), one.after.end());
  }
  return all;
}

}  // namespace

PostProcessor PostProcessor::read(const Json& json, int64_t vocab_size, std::string_view what) {
  if (json.is_null()) return {};
  return read_part(JsonPart(json, what, "post_processor"), vocab_size, 0);
}

Json template_processing(const std::vector<int32_t>& before, const std::vector<int32_t>& after,
                         const std::vector<std::string>& tokens) {
  if (before.empty() && after.empty()) return nullptr;
  Json special = Json::object();
  const auto token = [&](int32_t id, int type) -> Json {
    const std::string& name = tokens[static_cast<size_t>(id)];
    special[name] = {{"id", name}, {"ids", Json::array({id})}, {"tokens", Json::array({name})}};
    return {{"SpecialToken", {{"id", name}, {"type_id", type}}}};
  };
  const auto text = [](const char* name, int type) -> Json {
    return {{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  Json single = Json::array(), pair = Json::array();
  for (const int32_t id : before) single.push_back(token(id, 0));
  single.push_back(text("A", 0));
  for (const int32_t id : after) single.push_back(token(id, 0));
  pair = single;
  pair.push_back(text("B", 1));
  for (const int32_t id : after) pair.push_back(token(id, 1));
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
}

}  // namespace gatewright
