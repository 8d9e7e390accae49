#include "gatewright/text/jinja/arguments.h"

#include <algorithm>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"

namespace gatewright::jinja {

Bound::Bound(const Arguments& arguments, std::string_view function,
             std::initializer_list<std::string_view> names, size_t required)
    : function_(function), values_(names.size()) {
  if (arguments.positional.size() > names.size())
    fail("{} takes at most {} arguments, not {}", Quoted{function}, names.size(),
         arguments.positional.size());
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto at = static_cast<size_t>(std::ranges::find(names, name) - names.begin());
    if (at == names.size()) fail("{} takes no argument {}", Quoted{function}, Quoted{name});
    if (values_[at]) fail("{} is given the argument {} twice", Quoted{function}, Quoted{name});
    values_[at] = &value;
  }
  for (size_t i = 0; i < required; ++i)
    if (!values_[i]) fail("{} needs the argument {}", Quoted{function}, Quoted{names.begin()[i]});
}

int64_t Bound::integer(size_t i, int64_t otherwise) const {
  if (!values_[i]) return otherwise;
  const auto value = integer_of(*values_[i]);
  if (!value)
    fail("{}: argument {} must be an integer, not {}", Quoted{function_}, i + 1, kind_name(*values_[i]));
  return *value;
}

std::string_view Bound::text(size_t i, std::string_view otherwise) const {
  if (!values_[i]) return otherwise;
  const auto* value = as<std::string_view>(*values_[i]);
  if (!value)
    fail("{}: argument {} must be a text, not {}", Quoted{function_}, i + 1, kind_name(*values_[i]));
  return *value;
}

}  // namespace gatewright::jinja
