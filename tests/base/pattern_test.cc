#include "gatewright/base/pattern.h"

#include <gtest/gtest.h>

namespace gatewright {
namespace {

TEST(FitsPattern, NeedsTheWholeText) {
  EXPECT_TRUE(fits_pattern("model.norm.weight", "model.norm.weight"));
  EXPECT_FALSE(fits_pattern("model.norm.weight", "model.norm"));
  EXPECT_FALSE(fits_pattern("model.norm", "model.norm.weight"));
  EXPECT_TRUE(fits_pattern("", ""));
  EXPECT_FALSE(fits_pattern("a", ""));
}

TEST(FitsPattern, TakesAnyCharactersForAStar) {
  EXPECT_TRUE(fits_pattern("model.rnn_router.weight_ir", "model.rnn_router.*"));
  EXPECT_TRUE(fits_pattern("model.layers.3.mlp.gate.weight", "*.mlp.gate.*"));
  EXPECT_TRUE(fits_pattern("aXbXc", "a*b*c"));
  EXPECT_TRUE(fits_pattern("abab", "*ab"));
  EXPECT_TRUE(fits_pattern("", "**"));
  EXPECT_FALSE(fits_pattern("model.norm.weight", "*.gate.*"));
  EXPECT_FALSE(fits_pattern("abac", "*ab"));
}

}  // namespace
}  // namespace gatewright
