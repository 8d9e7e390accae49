// The verbs of `gatewright-lab`.
#pragma once

#include "command.h"

namespace gatewright::command {

void add_bench(Options& verb);
void add_reproduce(Options& verb);

inline std::map<std::string, AddVerb> lab_verbs() {
  return {{"bench", add_bench}, {"reproduce", add_reproduce}};
}

}  // namespace gatewright::command
