#include "gatewright/base/json.h"

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

/// Depth is counted over the raw text before parsing: cheap, and no parser state is built for a bomb.
void check_depth(std::string_view text, std::string_view what, int max_depth) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > max_depth) fail("{}: JSON nested more than {} deep", what, max_depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view what, int max_depth) {
  check_depth(text, what, max_depth);
  try {
    return Json::parse(text);
  } catch (const Json::exception& e) {
    fail_not_json(what, e);
  }
}

void fail_not_json(std::string_view what, const Json::exception& problem) {
  std::string reason = problem.what();
  if (const size_t at = reason.find("] "); at != std::string::npos) reason = reason.substr(at + 2);
  if (reason.size() > 160) reason = reason.substr(0, 160) + "...";
  for (char& c : reason)
    if (static_cast<unsigned char>(c) < 32 || static_cast<unsigned char>(c) > 126) c = '?';
  fail("{} is not JSON: {}", what, reason);
}

}  // namespace gatewright
