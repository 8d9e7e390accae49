#include "gatewright/text/corpus.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <set>

#include "gatewright/base/random.h"
#include "tests/text/test_text.h"

namespace gatewright {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> texts_of(const std::vector<CorpusDocument>& documents) {
  std::vector<std::string> texts;
  for (const CorpusDocument& document : documents) texts.push_back(document.text);
  return texts;
}

std::vector<Document> numbered(int count, const std::string& domain, uint64_t seed = 1) {
  RandomStream random(seed, domain);
  std::vector<Document> documents;
  for (int i = 0; i < count; ++i)
    documents.push_back({domain, "", domain + std::to_string(i) + std::string(random.below(300), '.')});
  return documents;
}

TEST(Corpus, KeepsEachContentOnce) {
  const Corpus corpus = Corpus::from_documents(
      {{"b", "", "same"}, {"a", "", "other"}, {"a", "", "same"}, {"a", "", "third"}, {"c", "", ""}},
      {.validation_share = 0});
  EXPECT_THAT(corpus.domains(), ElementsAre("a", "b"));
  EXPECT_THAT(texts_of(corpus.train()), ElementsAre("same", "other", "third"));
  EXPECT_EQ(corpus.train()[0].domain, 1);
  EXPECT_EQ(corpus.summary().duplicates, 1);
  EXPECT_EQ(corpus.bytes(), 14);
}

TEST(Corpus, CutsTheOnlyDocumentOfADomainAtALineEnd) {
  std::string text;
  for (int i = 0; i < 20; ++i) text += "line " + std::string(i % 3, 'x') + "\n";
  const Corpus corpus = Corpus::from_documents({{"a", "", text}}, {.validation_share = 0.1});
  ASSERT_EQ(corpus.train().size(), 1U);
  ASSERT_EQ(corpus.validation().size(), 1U);
  EXPECT_EQ(corpus.train()[0].text + corpus.validation()[0].text, text);
  EXPECT_TRUE(corpus.train()[0].text.ends_with('\n'));
  EXPECT_EQ(corpus.validation()[0].text, "line \nline x\n");
}

TEST(Corpus, CutsATextWithoutLinesBetweenCharacters) {
  const Corpus two = Corpus::from_documents({{"a", "", "äß"}});
  EXPECT_THAT(texts_of(two.train()), ElementsAre("ä"));
  EXPECT_THAT(texts_of(two.validation()), ElementsAre("ß"));
  const Corpus one = Corpus::from_documents({{"a", "", "ä"}});
  EXPECT_THAT(texts_of(one.train()), ElementsAre("ä"));
  EXPECT_TRUE(one.validation().empty());
}

TEST(Corpus, OfTwoDocumentsTheOneNearerToTheShareIsForValidation) {
  const Corpus corpus = Corpus::from_documents({{"a", "", std::string(1000, 'x')}, {"a", "", "short"}});
  EXPECT_THAT(texts_of(corpus.validation()), ElementsAre("short"));
}

TEST(Corpus, HoldsBackNoMoreThanAskedOfALongText) {
  const std::vector<Document> documents = numbered(2000, "a");
  const auto held_back = [&](int64_t most) {
    const Corpus corpus =
        Corpus::from_documents(documents, {.validation_share = 0.2, .most_validation_bytes = most});
    int64_t bytes = 0;
    for (const CorpusDocument& document : corpus.validation())
      bytes += static_cast<int64_t>(document.text.size());
    return static_cast<double>(bytes);
  };
  EXPECT_NEAR(held_back(10'000), 10'000, 4'000);
  EXPECT_EQ(held_back(10'000'000), held_back(0));
}

TEST(Corpus, EveryDomainIsOnBothSides) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    std::vector<Document> documents;
    for (int d = 0; d < 12; ++d) {
      const auto more = numbered(1 + d * d / 2, "domain" + std::to_string(d), seed);
      documents.insert(documents.end(), more.begin(), more.end());
    }
    const Corpus corpus = Corpus::from_documents(documents, {.validation_share = 0.05, .seed = seed});
    std::map<int32_t, double> train, validation;
    for (const CorpusDocument& document : corpus.train()) train[document.domain] += document.text.size();
    for (const CorpusDocument& document : corpus.validation())
      validation[document.domain] += document.text.size();
    EXPECT_EQ(train.size(), 12U);
    EXPECT_EQ(validation.size(), 12U);
    // With many documents no domain gives away far more than was asked.
    ASSERT_EQ(corpus.domains()[3], "domain11");
    EXPECT_LT(validation[3], 0.4 * (train[3] + validation[3]));
  }
}

TEST(Corpus, TheSplitFollowsFromContentAndSeed) {
  std::vector<Document> documents = numbered(400, "a");
  const Corpus corpus = Corpus::from_documents(documents, {.validation_share = 0.2});
  EXPECT_NEAR(static_cast<double>(corpus.validation().size()), 80, 30);
  EXPECT_EQ(corpus.fingerprint(), Corpus::from_documents(documents, {.validation_share = 0.2}).fingerprint());
  const auto sorted = [](const Corpus& c) {
    std::vector<std::string> texts = texts_of(c.validation());
    std::ranges::sort(texts);
    return texts;
  };
  // Another order or more documents move nobody to the other side.
  std::vector<Document> reversed(documents.rbegin(), documents.rend());
  EXPECT_EQ(sorted(Corpus::from_documents(reversed, {.validation_share = 0.2})), sorted(corpus));
  std::vector<Document> fewer(documents.begin(), documents.begin() + 300);
  const std::vector<std::string> all = sorted(corpus),
                                 some = sorted(Corpus::from_documents(fewer, {.validation_share = 0.2}));
  EXPECT_TRUE(std::ranges::includes(all, some));
  EXPECT_NE(sorted(Corpus::from_documents(documents, {.validation_share = 0.2, .seed = 1})), all);
}

TEST(Corpus, TheFingerprintSeesContentDomainsAndSplit) {
  const std::vector<Document> documents = numbered(50, "a");
  std::set<uint64_t> prints = {Corpus::from_documents(documents).fingerprint(),
                               Corpus::from_documents(documents, {.seed = 3}).fingerprint(),
                               Corpus::from_documents(documents, {.validation_share = 0}).fingerprint(),
                               Corpus::from_documents(documents, {.validation_share = 1}).fingerprint()};
  std::vector<Document> changed = documents;
  changed[7].text += "!";
  prints.insert(Corpus::from_documents(changed).fingerprint());
  changed = documents;
  changed[7].domain = "b";
  prints.insert(Corpus::from_documents(changed).fingerprint());
  EXPECT_EQ(prints.size(), 6U);
}

TEST(Corpus, ShareZeroAndOneKeepEverythingTogether) {
  const std::vector<Document> documents = numbered(9, "a");
  EXPECT_EQ(Corpus::from_documents(documents, {.validation_share = 0}).train().size(), 9U);
  EXPECT_EQ(Corpus::from_documents(documents, {.validation_share = 1}).validation().size(), 9U);
}

TEST(Corpus, ReadsFoldersAndTellsWhatWasLeftOut) {
  const TemporaryFolder folder;
  folder.write("d/a/1", "one");
  folder.write("d/a/2", "two");
  folder.write("d/b/1", "one");
  folder.write("d/b/3", std::string_view("\0", 1));
  folder.write("d/b/4", "four\nfive\n");
  const std::vector<std::filesystem::path> paths = {folder / "d"};
  const Corpus corpus = Corpus::read(paths);
  EXPECT_THAT(corpus.domains(), ElementsAre("a", "b"));
  EXPECT_EQ(corpus.summary().documents, 4);
  EXPECT_EQ(corpus.summary().duplicates, 1);
  EXPECT_EQ(corpus.summary().binary, 1);
}

TEST(Corpus, RefusesWhatIsNoCorpus) {
  EXPECT_THAT(error_of([] { Corpus::from_documents({}); }), HasSubstr("there is no text"));
  EXPECT_THAT(error_of([] {
                Corpus::from_documents({{"a", "", "x"}}, {.validation_share = 1.5});
              }),
              HasSubstr("must lie in [0, 1], got 1.5"));
  std::vector<Document> documents;
  for (int i = 0; i < 5000; ++i)
    documents.push_back({std::to_string(i), "f:" + std::to_string(i), std::to_string(i)});
  EXPECT_THAT(error_of([&] { Corpus::from_documents(documents); }),
              HasSubstr("f:4096: more than 4096 domains"));
}

}  // namespace
}  // namespace gatewright
