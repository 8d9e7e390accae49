#include "gatewright/text/json_lines.h"

#include <algorithm>
#include <utility>

#include "gatewright/base/error.h"
#include "gatewright/base/json.h"

namespace gatewright {
namespace {

/// Takes the string field out of the object; nothing when it is not there.
bool take_string(Json& object, const char* key, std::string_view where, std::string& value) {
  const auto field = object.find(key);
  if (field == object.end()) return false;
  if (!field->is_string())
    fail("{}: \"{}\" holds a {}, a string was expected", where, key, field->type_name());
  value = std::move(field->get_ref<std::string&>());
  return true;
}

std::string keys_of(const Json& object) {
  std::string keys;
  for (const auto& [key, value] : object.items()) {
    if (keys.size() > 80) return keys + ", ...";
    keys += keys.empty() ? "" : ", ";
    keys += clean_domain_name(key);
  }
  return keys.empty() ? "nothing" : keys;
}

}  // namespace

void read_json_lines(std::string_view bytes, std::string_view name, std::string_view domain,
                     const DocumentOptions& options, ReadSummary& summary,
                     const std::function<void(Document)>& visit) {
  constexpr int kMaxDepth = 32;
  int64_t number = 0;
  while (!bytes.empty()) {
    const size_t end = std::min(bytes.find('\n'), bytes.size());
    const std::string_view line = bytes.substr(0, end);
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", name, number);
    require(std::cmp_less_equal(line.size(), options.max_document_bytes),
            "{}: a line of {} bytes, at most {} are allowed for one document", where, line.size(),
            options.max_document_bytes);
    Json object = parse_json(line, where, kMaxDepth);
    require(object.is_object(), "{}: a JSON object was expected, found {}", where, object.type_name());
    Document document{.domain = std::string(domain), .source = where, .text = {}};
    if (!take_string(object, "text", where, document.text))
      fail("{}: no \"text\" in this line (it has: {})", where, keys_of(object));
    std::string own_domain;
    if (take_string(object, "domain", where, own_domain) && !own_domain.empty())
      document.domain = clean_domain_name(own_domain);
    if (document.text.empty()) {
      ++summary.empty;
      continue;
    }
    ++summary.documents;
    summary.bytes += static_cast<int64_t>(document.text.size());
    visit(std::move(document));
  }
}

}  // namespace gatewright
