#include "gatewright/text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <fstream>

#include "core_verbs.h"
#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/json.h"
#include "gatewright/formats/compression.h"
#include "gatewright/report/terminal.h"
#include "gatewright/text/bpe_trainer.h"
#include "gatewright/text/chat_template.h"
#include "gatewright/text/documents.h"
#include "gatewright/text/utf8.h"

namespace gatewright::command {
namespace {

struct TokenizerArguments {
  std::string tokenizer, out, input = "-", text;
  std::vector<std::string> files;
  BpeTrainerOptions training;
  int rounds = 5;
  bool json = false, parse_special = false, add_special = false, skip_special = false;
};

/// A token on the terminal: its text, with control characters and what is no UTF-8 by itself as \xNN.
std::string shown(std::string_view bytes) {
  const bool text = is_utf8(bytes);
  std::string out;
  for (char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    out += c == '\n'                                                ? "\\n"
           : c == '\t'                                              ? "\\t"
           : byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !text) ? fmt::format("\\x{:02x}", byte)
                                                                    : std::string(1, c);
  }
  return out;
}

std::string first_bytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::string begin(4, '\0');
  in.read(begin.data(), static_cast<std::streamsize>(begin.size()));
  return begin;
}

/// Before the work: whether a file of about the size can be written.
void check_output(const std::filesystem::path& out, int64_t vocab_size) {
  constexpr uint64_t kBytesPerToken = 40;  // in the vocabulary and in the list of merges
  const uint64_t size = kBytesPerToken * static_cast<uint64_t>(vocab_size);
  if (out == "-") return;
  check_room(out.has_parent_path() ? out.parent_path() : ".", size, size);
}

void train(const TokenizerArguments& a) {
  if (a.json && a.out == "-") fail_usage("--json and --out - both write to standard output");
  if (std::filesystem::is_directory(a.out)) fail_usage("--out {} is a folder, a file was expected", a.out);
  check_output(a.out, a.training.vocab_size);
  BpeTrainer trainer;
  std::optional<Progress> progress(std::in_place, "reading", "MB", 0.0);
  int64_t bytes = 0;
  const auto add = [&](std::string_view text) {
    trainer.add(text);
    bytes += static_cast<int64_t>(text.size());
  };
  for (const std::filesystem::path file : a.files) {
    // A plain file that is named is taken as it is, whatever its bytes are.
    const bool plain = std::filesystem::is_regular_file(file) && file.extension() != ".jsonl" &&
                       detect_compression(first_bytes(file)) == Compression::kNone;
    if (plain)
      add(MappedFile(file).text());
    else
      read_documents(std::span(&file, 1), {}, [&](const Document& document) { add(document.text); });
  }
  progress.emplace("merging", "merges", static_cast<double>(a.training.vocab_size - 257));
  BpeTrainerOptions options = a.training;
  options.progress = [&](int64_t merges, int64_t) { progress->update(static_cast<double>(merges)); };
  const BpeTraining training = trainer.train(options);
  progress.reset();
  if (a.out == "-")
    print(training.tokenizer.to_json());
  else
    training.tokenizer.save(a.out);
  if (training.ran_out)
    note(fmt::format("warning: the text has no more pairs to merge: the vocabulary has {} tokens, not {}",
                     training.tokenizer.vocab_size(), a.training.vocab_size));
  if (a.json)
    return print(OrderedJson({{"tokenizer", a.out},
                              {"tokens", training.tokenizer.vocab_size()},
                              {"bytes", bytes},
                              {"ran_out", training.ran_out}})
                     .dump(2) +
                 "\n");
  note(fmt::format("{}: {} tokens from {:.1f} MB of text", a.out, training.tokenizer.vocab_size(),
                   static_cast<double>(bytes) / 1e6));
}

std::string joined(const std::vector<int32_t>& ids, char separator) {
  std::string text;
  text.reserve(ids.size() * 5);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i) text += separator;
    fmt::format_to(std::back_inserter(text), "{}", ids[i]);
  }
  return text;
}

void encode(const TokenizerArguments& a) {
  const Tokenizer tokenizer = Tokenizer::load(a.tokenizer);
  const EncodeOptions options{.parse_special = a.parse_special, .add_special = a.add_special};
  std::vector<int32_t> ids;
  if (a.input == "-") {
    ids = tokenizer.encode(read_file("-"), options);
  } else {
    const MappedFile file(a.input);
    ids = tokenizer.encode(file.text(), options);
  }
  print(a.json ? "{\"ids\": [" + joined(ids, ',') + "]}\n" : joined(ids, ' ') + "\n");
}

std::vector<int32_t> ids_of(const std::string& text, const std::string& what) {
  const Json json = parse_json(text, what);
  const Json& list = json.is_object() && json.contains("ids") ? json["ids"] : json;
  require(list.is_array(), "{}: {{\"ids\": [...]}} was expected", what);
  std::vector<int32_t> ids;
  for (const Json& id : list) {
    require(id.is_number_integer() && id >= 0 && id <= INT32_MAX, "{}: '{}' is not a token id", what,
            id.dump().substr(0, 40));
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

void decode(const TokenizerArguments& a) {
  const Tokenizer tokenizer = Tokenizer::load(a.tokenizer);
  print(tokenizer.decode(ids_of(read_file(a.input), a.input == "-" ? "standard input" : a.input),
                         {.skip_special = a.skip_special}));
}

/// A list of messages, or an object with it and with what else the template sees.
void render(const TokenizerArguments& a) {
  const Tokenizer tokenizer = Tokenizer::load(a.tokenizer);
  require(!tokenizer.chat_template().empty(), "{} has no chat template", a.tokenizer);
  const std::string what = a.input == "-" ? "standard input" : a.input, text = read_file(a.input);
  parse_json(text, what);  // so that what is wrong is told in our words
  OrderedJson given = OrderedJson::parse(text);
  if (given.is_array()) given = {{"messages", given}};
  require(given.is_object() && given.contains("messages") && given["messages"].is_array(),
          "{}: a list of messages was expected, or an object with 'messages'", what);
  const auto name = [&](const std::optional<int32_t>& id) { return id ? tokenizer.token_bytes(*id) : ""; };
  ChatTemplateInput input{.bos_token = name(tokenizer.begin()), .eos_token = name(tokenizer.end())};
  for (const auto& [key, value] : given.items()) {
    if (key == "messages") continue;
    if (key == "tools") {
      input.tools = value;
    } else if (key == "add_generation_prompt") {
      require(value.is_boolean(), "{}: 'add_generation_prompt' must be true or false", what);
      input.add_generation_prompt = value.get<bool>();
    } else {
      input.more[key] = value;
    }
  }
  const RenderedChat chat = ChatTemplate(tokenizer.chat_template(), "the chat template of " + a.tokenizer)
                                .render(given["messages"], input);
  if (!a.json) return print(chat.text);
  EncodeOptions options{.parse_special = true};
  if (!a.parse_special) options.plain = chat.from_messages;
  print(OrderedJson({{"text", chat.text}, {"ids", tokenizer.encode(chat.text, options)}})
            .dump(-1, ' ', false, OrderedJson::error_handler_t::replace) +
        "\n");
}

void show(const TokenizerArguments& a) {
  const Tokenizer tokenizer = Tokenizer::load(a.tokenizer);
  const auto print_tokens = [&](std::span<const int32_t> ids) {
    for (int32_t id : ids) print(fmt::format("{:>7}  '{}'\n", id, shown(tokenizer.token_bytes(id))));
  };
  const auto json_tokens = [&](std::span<const int32_t> ids) {
    OrderedJson list = OrderedJson::array();
    for (int32_t id : ids) list.push_back({{"id", id}, {"token", shown(tokenizer.token_bytes(id))}});
    return list;
  };
  if (!a.text.empty()) {
    const std::vector<int32_t> ids =
        tokenizer.encode(a.text, {.parse_special = a.parse_special, .add_special = a.add_special});
    if (a.json) return print(OrderedJson({{"tokens", json_tokens(ids)}}).dump(2) + "\n");
    return print_tokens(ids);
  }
  std::vector<int32_t> longest(static_cast<size_t>(tokenizer.vocab_size()));
  for (size_t i = 0; i < longest.size(); ++i) longest[i] = static_cast<int32_t>(i);
  std::ranges::stable_sort(longest, std::greater{},
                           [&](int32_t id) { return tokenizer.token_bytes(id).size(); });
  longest.resize(std::min<size_t>(20, longest.size()));
  const auto json_id = [](const std::optional<int32_t>& id) { return id ? OrderedJson(*id) : OrderedJson(); };
  if (a.json)
    return print(OrderedJson({{"kind", kind_name(tokenizer.kind())},
                              {"vocab_size", tokenizer.vocab_size()},
                              {"begin", json_id(tokenizer.begin())},
                              {"end", json_id(tokenizer.end())},
                              {"end_of_text", json_id(tokenizer.end_of_text())},
                              {"unknown", json_id(tokenizer.unknown())},
                              {"padding", json_id(tokenizer.padding())},
                              {"lossless", tokenizer.lossless()},
                              {"chat_template", !tokenizer.chat_template().empty()},
                              {"longest", json_tokens(longest)}})
                     .dump(2, ' ', false, OrderedJson::error_handler_t::replace) +
                 "\n");
  const auto shown_id = [](const std::optional<int32_t>& id) {
    return id ? fmt::format("{}", *id) : std::string("none");
  };
  print(fmt::format("{}, {} tokens, begin {}, end {}, end of text {}{}\nlongest tokens:\n",
                    kind_name(tokenizer.kind()), tokenizer.vocab_size(), shown_id(tokenizer.begin()),
                    shown_id(tokenizer.end()), shown_id(tokenizer.end_of_text()),
                    tokenizer.chat_template().empty() ? "" : ", with a chat template"));
  print_tokens(longest);
}

/// Of the processor on this thread, so that what others do matters little.
double processor_seconds() {
  timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// One thread, the same text again and again, after a first time that fills the caches.
void bench(const TokenizerArguments& a) {
  const auto seconds_of = [](const auto& work) {
    const double start = processor_seconds();
    work();
    return processor_seconds() - start;
  };
  std::optional<Tokenizer> tokenizer;
  const double loading = seconds_of([&] { tokenizer.emplace(Tokenizer::load(a.tokenizer)); });
  const std::string text = read_file(a.input);
  require(!text.empty(), "{} is empty", a.input == "-" ? "standard input" : a.input);
  std::vector<int32_t> ids;
  std::vector<double> rates;
  for (int round = 0; round <= a.rounds; ++round) {
    ids.clear();
    const double seconds = seconds_of([&] { tokenizer->encode(text, ids); });
    if (round > 0) rates.push_back(static_cast<double>(text.size()) / seconds / 1e6);
  }
  std::ranges::sort(rates);
  const double median = rates[rates.size() / 2];
  if (a.json)
    return print(OrderedJson({{"megabytes_per_second", median},
                              {"least", rates.front()},
                              {"most", rates.back()},
                              {"bytes", text.size()},
                              {"tokens", ids.size()},
                              {"loading_seconds", loading}})
                     .dump(2) +
                 "\n");
  print(fmt::format("{:.1f} MB/s ({:.1f} to {:.1f}), {} bytes to {} tokens, loading {:.2f} s\n", median,
                    rates.front(), rates.back(), text.size(), ids.size(), loading));
}

}  // namespace

void add_tokenizer(Options& verb) {
  const auto a = std::make_shared<TokenizerArguments>();
  Options sub = verb.verb("train", "learn a byte-level BPE from text");
  sub.add("FILES", a->files, "files and folders with text; - for standard input").required();
  sub.add("--vocab-size", a->training.vocab_size, "tokens: 256 bytes, <|endoftext|> and merges")
      .range(257, 1 << 20)
      .show_default();
  sub.add("--min-frequency", a->training.min_frequency, "a pair seen less often is not merged")
      .positive()
      .show_default();
  sub.add("--out", a->out, "tokenizer.json to write; - for standard output").required();
  sub.flag("--json", a->json, "print the result as JSON");
  sub.examples("  gatewright tokenizer train --vocab-size 16384 --out tokenizer.json ~/books");
  sub.run([a] { train(*a); });
  const auto common = [&](const char* name, const char* summary) {
    Options s = verb.verb(name, summary);
    s.add("--tokenizer", a->tokenizer, "a tokenizer.json, SentencePiece model or GGUF file, or their folder")
        .required();
    return s;
  };
  const auto special = [&](Options& s) {
    s.flag("--parse-special", a->parse_special, "names of special tokens in the text become those tokens");
    s.flag("--add-special", a->add_special, "add the begin and end tokens that the tokenizer asks for");
  };
  sub = common("encode", "text to token ids");
  sub.add("FILE", a->input, "text; - for standard input").show_default();
  sub.flag("--json", a->json, "print {\"ids\": [...]}");
  special(sub);
  sub.examples("  echo hello | gatewright tokenizer encode --tokenizer tokenizer.json --json -");
  sub.run([a] { encode(*a); });
  sub = common("decode", "token ids to text");
  sub.add("FILE", a->input, "{\"ids\": [...]}; - for standard input").show_default();
  sub.flag("--skip-special", a->skip_special, "leave special tokens out");
  sub.examples("  gatewright tokenizer decode --tokenizer tokenizer.json ids.json");
  sub.run([a] { decode(*a); });
  sub = common("render", "a conversation as the text that the chat template makes of it");
  sub.add("FILE", a->input,
          "[{\"role\", \"content\"}, ...], or {\"messages\": [...], \"tools\": [...], ...}; - for standard "
          "input")
      .show_default();
  sub.flag("--json", a->json, "print {\"text\": ..., \"ids\": [...]}: as a model is given it");
  sub.flag("--parse-special", a->parse_special,
           "names of special tokens in the messages become those tokens, too; else they stay text");
  sub.examples(
      "  echo '[{\"role\": \"user\", \"content\": \"Hello\"}]' | gatewright tokenizer render --tokenizer "
      "model.gguf -");
  sub.run([a] { render(*a); });
  sub = common("bench", "how fast one thread encodes texts, by processor time");
  sub.add("FILE", a->input, "text; - for standard input").show_default();
  sub.add("--rounds", a->rounds, "measurements, the median counts").range(1, 1000).show_default();
  sub.flag("--json", a->json, "print JSON");
  sub.examples("  gatewright tokenizer bench --tokenizer tokenizer.json book.txt");
  sub.run([a] { bench(*a); });
  sub = common("show", "how a text is cut, or the longest tokens");
  sub.add("TEXT", a->text, "text to cut into tokens");
  sub.flag("--json", a->json, "print JSON");
  special(sub);
  sub.examples("  gatewright tokenizer show --tokenizer tokenizer.json 'some text'");
  sub.run([a] { show(*a); });
}

}  // namespace gatewright::command
