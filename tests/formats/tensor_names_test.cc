#include "gatewright/formats/tensor_names.h"

#include <gtest/gtest.h>

namespace gatewright {
namespace {

TEST(TensorNames, GiveTheNumberAfterAMark) {
  EXPECT_EQ(number_after("model.layers.12.mlp.experts.3.up_proj.weight", ".layers."), 12);
  EXPECT_EQ(number_after("model.layers.12.mlp.experts.3.up_proj.weight", ".experts."), 3);
  EXPECT_EQ(number_after("model.layers.12", "layers."), 12);
  for (const char* none : {"model.layers.", "model.layers.x", "model.layers.-1", "layer.3",
                           "model.layers.99999999999999999999.w"})
    EXPECT_EQ(number_after(none, ".layers."), std::nullopt) << none;
}

TEST(TensorNames, OfGgufBeginWithTheirLayer) {
  EXPECT_EQ(gguf_layer("blk.7.attn_q.weight"), 7);
  EXPECT_EQ(gguf_layer("blk.2147483647.x"), INT32_MAX);
  for (const char* none :
       {"output.weight", "blk.", "blk.7", "blk.x.y", "blk.-1.y", "x.blk.7.y", "blk.7x.y", "blk.2147483648.x"})
    EXPECT_EQ(gguf_layer(none), std::nullopt) << none;
}

}  // namespace
}  // namespace gatewright
