#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <iostream>

#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/base/nearest.h"
#include "gatewright/evaluate/generate.h"
#include "gatewright/formats/model_lookup.h"
#include "gatewright/report/terminal.h"
#include "gatewright/text/chat_template.h"
#include "model_folder.h"
#include "sampling_options.h"
#include "tensor_verbs.h"

namespace gatewright::command {
namespace {

struct ChatArguments {
  std::string model, system, device = "auto";
  GenerateOptions options{.max_tokens = 512};
  RoutingOverrides overrides;
  bool parse_special = false;
};

constexpr std::string_view kHelp =
    "/help         this list\n"
    "/clear        forget what was said\n"
    "/system TEXT  what the model is told before all else; forgets what was said\n"
    "/quit         end (or Ctrl-D)\n"
    "Ctrl-C stops an answer.\n";

/// The bytes of a special token that the tokenizer may have, else nothing.
std::string name_of(const Tokenizer& tokenizer, std::optional<int32_t> token) {
  return token ? tokenizer.token_bytes(*token) : "";
}

/// Tokens that end an answer: the end of text, and what families end a turn with.
std::vector<int32_t> ends_of_turn(const Tokenizer& tokenizer) {
  std::vector<int32_t> ends;
  for (const std::optional<int32_t> end : {tokenizer.end(), tokenizer.end_of_text()})
    if (end) ends.push_back(*end);
  for (const char* name :
       {"<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "<end_of_turn>", "<|return|>"})
    if (const auto end = tokenizer.find(name); end && tokenizer.is_special(*end)) ends.push_back(*end);
  return ends;
}

class Chat {
 public:
  Chat(Model& model, ChatTemplate chat_template, const ChatArguments& arguments)
      : model_(model),
        decoder_(model.decoder),
        template_(std::move(chat_template)),
        options_(arguments.options),
        system_(arguments.system),
        parse_special_(arguments.parse_special),
        talks_to_a_person_(isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) {
    options_.stop = ends_of_turn(model.tokenizer);
    clear();
  }

  void run() {
    if (talks_to_a_person_) note("/help tells what can be said besides messages");
    for (std::string line; read(line);) {
      if (line == "/quit") return;
      if (line.starts_with('/'))
        obey(line);
      else if (!line.empty())
        answer(line);
      if (interrupted() && !talks_to_a_person_) fail("interrupted");
      clear_interrupt();
    }
  }

 private:
  bool read(std::string& line) {
    if (talks_to_a_person_) print("> ");
    if (!std::getline(std::cin, line)) {
      if (talks_to_a_person_) print("\n");
      return false;
    }
    if (line.ends_with('\r')) line.pop_back();
    return true;
  }

  void obey(const std::string& line) {
    if (line == "/help") return print(kHelp);
    if (line == "/clear") return clear();
    if (line.starts_with("/system ")) {
      system_ = line.substr(std::string_view("/system ").size());
      return clear();
    }
    const std::vector<std::string> commands = {"/help", "/clear", "/system", "/quit"};
    note(fmt::format("there is no command {}{}", line.substr(0, 60),
                     did_you_mean(line.substr(0, line.find(' ')), commands)));
  }

  void clear() {
    messages_.clear();
    if (!system_.empty()) messages_.push_back({"system", system_});
  }

  /// A person may go on after a message that the template refuses.
  void answer(const std::string& question) {
    try {
      say(question);
    } catch (const Error& error) {
      if (!talks_to_a_person_) throw;
      messages_.pop_back();
      note(error.what());
    }
  }

  void say(const std::string& question) {
    messages_.push_back({"user", question});
    const std::vector<int32_t> prompt = fitting_prompt();
    const Tokenizer& tokenizer = model_.tokenizer;
    std::string said;
    std::optional<Progress> reading(std::in_place, "reading", "tokens", static_cast<double>(prompt.size()));
    GenerateOptions options = options_;
    options.num_ids = tokenizer.vocab_size();
    options.reading = [&](int64_t done, int64_t total) {
      if (total > CachedDecoder::kPiece) reading->update(static_cast<double>(done));
    };
    generate(decoder_, prompt, options, [&](int32_t token) {
      reading.reset();
      if (tokenizer.is_special(token)) return true;
      said += tokenizer.token_bytes(token);
      print(tokenizer.token_bytes(token));
      return true;
    });
    reading.reset();
    print("\n");
    messages_.push_back({"assistant", said});
    ++options_.seed;  // another draw when the same is asked again
  }

  std::vector<int32_t> prompt() const {
    const Tokenizer& tokenizer = model_.tokenizer;
    const RenderedChat chat = template_.render(messages_, {.bos_token = name_of(tokenizer, tokenizer.begin()),
                                                           .eos_token = name_of(tokenizer, tokenizer.end())});
    if (parse_special_) return tokenizer.encode(chat.text, {.parse_special = true});
    return tokenizer.encode(chat.text, {.parse_special = true, .plain = chat.from_messages});
  }

  /// The oldest turns are forgotten when the conversation and an answer would not fit the model.
  std::vector<int32_t> fitting_prompt() {
    const int64_t room = model_.decoder.spec().max_positions - options_.max_tokens;
    const std::ptrdiff_t first = messages_.front().role == "system" ? 1 : 0;
    std::vector<int32_t> tokens = prompt();
    bool forgot = false;
    while (static_cast<int64_t>(tokens.size()) > room && std::ssize(messages_) - first > 2) {
      messages_.erase(messages_.begin() + first, messages_.begin() + first + 2);
      tokens = prompt();
      forgot = true;
    }
    if (forgot) note("the conversation has become too long: its first turns are forgotten");
    return tokens;
  }

  Model& model_;
  CachedDecoder decoder_;
  ChatTemplate template_;
  GenerateOptions options_;
  std::string system_;
  bool parse_special_;
  bool talks_to_a_person_;
  std::vector<ChatMessage> messages_;
};

void chat(const ChatArguments& a) {
  Model model = load_model(a.model, a.device, a.overrides);
  const std::string& source = model.tokenizer.chat_template();
  if (source.empty())
    fail(
        "{} has no chat template, so it does not say how a conversation is written; `gatewright generate` "
        "continues a "
        "text",
        a.model);
  catch_interrupts();
  std::signal(SIGTERM, SIG_DFL);  // ends the program, not the answer
  Chat(model, ChatTemplate(source, "the chat template of " + a.model), a).run();
}

}  // namespace

void add_chat(Options& verb) {
  const auto a = std::make_shared<ChatArguments>();
  verb.add("MODEL", a->model, "folder, file or short name of a model with a chat template").required();
  verb.add("--system", a->system, "what the model is told before all else");
  verb.flag("--parse-special", a->parse_special,
            "names of special tokens in what is said become those tokens; else they stay text");
  verb.add("--tokens", a->options.max_tokens, "tokens of an answer at most").range(1, 1 << 20).show_default();
  add_sampling(verb, a->options.sampling, a->options.seed);
  verb.add("--device", a->device, "auto, cpu or cuda").one_of({"auto", "cpu", "cuda"}).show_default();
  add_overrides(verb, a->overrides);
  add_threads(verb);
  verb.run([a] { chat(*a); });
}

}  // namespace gatewright::command
