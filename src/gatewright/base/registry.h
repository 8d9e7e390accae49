// Things chosen by name. A room fills its registry in one visible list; nothing registers itself.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gatewright/base/nearest.h"
#include "gatewright/base/parameters.h"

namespace gatewright {

/// Factory is what makes the piece, usually a function from Values (and sizes) to a unique_ptr.
template <typename Factory>
class Registry {
 public:
  struct Entry {
    Spec spec;
    Factory make;
  };

  /// kind: "scorer", "selector", ... for messages.
  Registry(std::string kind, std::vector<Entry> entries)
      : kind_(std::move(kind)), entries_(std::move(entries)) {}

  const std::string& kind() const { return kind_; }
  const std::vector<Entry>& entries() const { return entries_; }

  const Entry* find(std::string_view name) const {
    for (const Entry& e : entries_) {
      if (e.spec.name == name) return &e;
    }
    return nullptr;
  }

  const Entry& at(std::string_view name) const {
    if (const Entry* e = find(name)) return *e;
    fail_usage("there is no {} '{}'{}", kind_, name, did_you_mean(name, names()));
  }

  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const Entry& e : entries_) result.push_back(e.spec.name);
    return result;
  }

 private:
  std::string kind_;
  std::vector<Entry> entries_;
};

}  // namespace gatewright
