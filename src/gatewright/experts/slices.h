// A dense feed-forward cut into experts, as SMoE-Dropout does (Chen et al. 2023, arXiv 2303.01610, with
// weights for trained networks).
#pragma once

#include "gatewright/experts/ffn_function.h"

namespace gatewright {

/// Expert e of E has rows e F / E to (e + 1) F / E of the first layer (and of the gate) and the same columns
/// of the second, which are multiplied by E; every expert has the whole second bias. With all experts and
/// weights 1 / E the sum is the dense feed-forward.
/// @param dense    without the first axis (see make_ffn_parameters); any float type
/// @param experts  must divide the width F
FfnTensors slice_ffn(const FfnTensors& dense, int64_t experts);

/// The dense feed-forward that such experts are together when each weighs 1 / E.
FfnTensors join_slices(const FfnTensors& slices);

}  // namespace gatewright
