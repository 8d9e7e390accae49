#include "gatewright/formats/block_types.h"

#include "gatewright/base/cpu_targets.h"
#include "gatewright/base/error.h"
#include "gatewright/formats/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gatewright/formats/block_types.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file again for each target.
#include "gatewright/formats/block_types-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright {
namespace HWY_NAMESPACE {
namespace {

template <typename Block>
void each_block(const uint8_t* blocks, std::span<float> values) {
  const BlockTag d;
  float* x = values.data();
  for (size_t i = 0; i < values.size() / Block::kElements;
       ++i, blocks += Block::kBytes, x += Block::kElements) {
    float scales[8];
    if constexpr (kScalesApart<Block>) Block::scales(blocks, 1, scales);
    each_pair<Block>(blocks, scales, [&](int e, BlockVec first, BlockVec second) HWY_ATTR {
      hn::StoreU(first, d, x + e);
      hn::StoreU(second, d, x + e + static_cast<int>(hn::Lanes(d)));
    });
  }
}

template <typename T, typename Convert>
void each_value(const uint8_t* bytes, std::span<float> values, const Convert& convert) {
  for (size_t i = 0; i < values.size(); ++i) values[i] = convert(load_as<T>(bytes + i * sizeof(T)));
}
template <typename T>
void each_value(const uint8_t* bytes, std::span<float> values) {
  each_value<T>(bytes, values, [](T value) { return static_cast<float>(value); });
}

}  // namespace

/// Of whole blocks, as many as the values need.
void unpack_blocks(DataType type, const uint8_t* in, std::span<float> values) {
  switch (type) {
    case DataType::kF64:
      return each_value<double>(in, values);
    case DataType::kF32:
      return each_value<float>(in, values);
    case DataType::kF16:
      return each_value<uint16_t>(in, values, [](uint16_t x) { return half_to_float(x); });
    case DataType::kBF16:
      return each_value<uint16_t>(in, values, [](uint16_t x) { return bfloat_to_float(x); });
    case DataType::kI64:
      return each_value<int64_t>(in, values);
    case DataType::kI32:
      return each_value<int32_t>(in, values);
    case DataType::kI16:
      return each_value<int16_t>(in, values);
    case DataType::kI8:
      return each_value<int8_t>(in, values);
    case DataType::kU8:
    case DataType::kBool:
      return each_value<uint8_t>(in, values);
    case DataType::kQ4_0:
      return each_block<Q4_0>(in, values);
    case DataType::kQ4_1:
      return each_block<Q4_1>(in, values);
    case DataType::kQ5_0:
      return each_block<Q5_0>(in, values);
    case DataType::kQ5_1:
      return each_block<Q5_1>(in, values);
    case DataType::kQ8_0:
      return each_block<Q8_0>(in, values);
    case DataType::kQ2_K:
      return each_block<Q2_K>(in, values);
    case DataType::kQ3_K:
      return each_block<Q3_K>(in, values);
    case DataType::kQ4_K:
      return each_block<Q4_K>(in, values);
    case DataType::kQ5_K:
      return each_block<Q5_K>(in, values);
    case DataType::kQ6_K:
      return each_block<Q6_K>(in, values);
    case DataType::kIQ4_NL:
      return each_block<IQ4_NL>(in, values);
    case DataType::kMXFP4:
      return each_block<MXFP4>(in, values);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gatewright {
HWY_EXPORT(unpack_blocks);

void unpack(DataType type, std::span<const std::byte> blocks, std::span<float> values) {
  const auto elements = static_cast<size_t>(block_elements(type)),
             bytes = static_cast<size_t>(block_bytes(type));
  require(values.size() % elements == 0 && blocks.size() == values.size() / elements * bytes,
          "{} values of {} can't be unpacked from {} bytes", values.size(), data_type_name(type),
          blocks.size());
  HWY_DYNAMIC_DISPATCH(unpack_blocks)(type, reinterpret_cast<const uint8_t*>(blocks.data()), values);
}

}  // namespace gatewright
#endif
