// What long work tells whoever watches it.
#pragma once

#include <string>
#include <string_view>

#include "gatewright/base/json.h"

namespace gatewright {

class Events {
 public:
  virtual ~Events() = default;
  /// A sentence for the user.
  virtual void note(std::string_view /*text*/) {}
  virtual void warn(std::string_view /*text*/) {}
  /// done of total in units ("MB"); what names the stage ("tokenising").
  virtual void progress(std::string_view /*what*/, std::string_view /*unit*/, double /*done*/,
                        double /*total*/) {}
  /// A line of metrics, as it goes into metrics.jsonl.
  virtual void metrics(const OrderedJson& /*row*/) {}
};

}  // namespace gatewright
