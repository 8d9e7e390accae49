#include "gatewright/train/schedule.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::HasSubstr;

Schedule schedule_of(const std::string& name, const std::map<std::string, Value>& given = {}) {
  const auto& entry = schedules().at(name);
  return entry.make(Values(entry.spec.parameters, given, name));
}

const std::map<std::string, Value> kWarm = {{"warmup_steps", int64_t{10}}, {"final_factor", 0.1}};

TEST(Schedule, ConstantIsOneAfterTheWarmUp) {
  const Schedule schedule = schedule_of("constant", {{"warmup_steps", int64_t{4}}});
  const double expected[] = {0.25, 0.5, 0.75, 1, 1, 1};
  for (int64_t step = 0; step < 6; ++step) EXPECT_DOUBLE_EQ(schedule(step, 100), expected[step]);
  EXPECT_DOUBLE_EQ(schedule(99, 100), 1);
  EXPECT_DOUBLE_EQ(schedule_of("constant")(0, 100), 1) << "without warm-up the first step has the peak rate";
}

TEST(Schedule, CosineIsHalfWayInTheMiddleAndFinalAtTheEnd) {
  const Schedule schedule = schedule_of("cosine", kWarm);  // 10 steps up, 100 down from 1 to 0.1
  EXPECT_DOUBLE_EQ(schedule(0, 110), 0.1);
  EXPECT_DOUBLE_EQ(schedule(9, 110), 1);
  EXPECT_DOUBLE_EQ(schedule(10, 110), 1);
  EXPECT_NEAR(schedule(35, 110), 0.1 + 0.9 * (1 + std::sqrt(0.5)) / 2, 1e-12);
  EXPECT_NEAR(schedule(60, 110), 0.55, 1e-12);
  EXPECT_NEAR(schedule(110, 110), 0.1, 1e-12);
  EXPECT_NEAR(schedule(500, 110), 0.1, 1e-12);
}

TEST(Schedule, LinearIsAStraightLine) {
  const Schedule schedule = schedule_of("linear", kWarm);
  EXPECT_DOUBLE_EQ(schedule(10, 110), 1);
  EXPECT_NEAR(schedule(60, 110), 0.55, 1e-12);
  EXPECT_NEAR(schedule(85, 110), 0.325, 1e-12);
  EXPECT_NEAR(schedule(110, 110), 0.1, 1e-12);
}

TEST(Schedule, WarmUpStableDecayFallsInTheLastShare) {
  const Schedule schedule = schedule_of("wsd", kWarm);  // decay_share 0.2: falls from step 90 on
  for (const int64_t step : {10, 50, 90}) EXPECT_NEAR(schedule(step, 110), 1, 1e-12);
  EXPECT_NEAR(schedule(100, 110), 0.55, 1e-12);
  EXPECT_NEAR(schedule(110, 110), 0.1, 1e-12);
}

TEST(Schedule, InverseRootFallsWithTheRootOfTheSteps) {
  const Schedule schedule = schedule_of("inverse_sqrt", {{"warmup_steps", int64_t{100}}});
  EXPECT_DOUBLE_EQ(schedule(49, 10000), 0.5);
  EXPECT_DOUBLE_EQ(schedule(99, 10000), 1);
  EXPECT_DOUBLE_EQ(schedule(399, 10000), 0.5);
  EXPECT_DOUBLE_EQ(schedule(9999, 10000), 0.1);
}

TEST(Schedule, EveryOneStaysWithinZeroAndOneAndRisesOnlyInTheWarmUp) {
  for (const auto& entry : schedules().entries()) {
    for (const int64_t warmup : {0, 1, 7, 50, 1000}) {
      for (const int64_t steps : {1, 2, 50, 51, 200}) {
        const Schedule schedule = schedule_of(entry.spec.name, {{"warmup_steps", warmup}});
        double before = 0;
        for (int64_t step = 0; step < steps; ++step) {
          const double factor = schedule(step, steps);
          EXPECT_GT(factor, 0) << entry.spec.name;
          EXPECT_LE(factor, 1) << entry.spec.name;
          const bool rises = factor >= before, falls = factor <= before;
          EXPECT_TRUE(step == warmup || (step < warmup ? rises : falls)) << entry.spec.name << " " << step;
          before = factor;
        }
      }
    }
  }
}

TEST(Schedule, RefusesParametersOutOfRange) {
  EXPECT_THAT(error_of([] {
                schedule_of("cosine", {{"final_factor", 1.5}});
              }),
              HasSubstr("final_factor must be in [0, 1], got 1.5"));
  EXPECT_THAT(error_of([] { schedule_of("wsd", {{"decay_share", 0.0}}); }), HasSubstr("decay_share"));
  EXPECT_THAT(error_of([] { schedule_of("cosin"); }), HasSubstr("did you mean 'cosine'?"));
}

}  // namespace
}  // namespace gatewright
