// The verbs of `gatewright`, without LibTorch.
#pragma once

#include "command.h"

namespace gatewright::command {

void add_convert(Options& verb);
void add_show(Options& verb);
void add_list(Options& verb);
void add_explain(Options& verb);
void add_recipe(Options& verb);
void add_tokenizer(Options& verb);
void add_upcycle(Options& verb);
void add_quantize(Options& verb);
void add_diff(Options& verb);

inline std::map<std::string, AddVerb> core_verbs() {
  return {{"list", add_list}, {"explain", add_explain},     {"recipe", add_recipe},
          {"show", add_show}, {"convert", add_convert},     {"quantize", add_quantize},
          {"diff", add_diff}, {"tokenizer", add_tokenizer}, {"upcycle", add_upcycle}};
}

}  // namespace gatewright::command
