#include "gatewright/text/unicode_text.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "gatewright/base/error.h"
#include "gatewright/text/unicode_classes.h"
#include "gatewright/text/utf8.h"

namespace gatewright {
namespace {

#include "gatewright/text/unicode_8_ranges.inc"
#include "gatewright/text/unicode_9_ranges.inc"

/// What the published tokenizers were trained with: their program knows other versions of Unicode for some
/// questions, and the same text must give the same tokens.
enum OldTrait : uint8_t {
  kUnassignedIn9 = 1,
  kMarkIn9 = 2,
  kPunctuationIn8 = 4,
  kNonspacingMarkIn8 = 8,
  kControlIn8 = 16
};

class OldTraits {
 public:
  OldTraits() : traits_(0x110000) {
    mark(kUnassigned9, kUnassignedIn9);
    mark(kMarks9, kMarkIn9);
    mark(kPunctuation8, kPunctuationIn8);
    mark(kNonspacingMarks8, kNonspacingMarkIn8);
    mark(kControls8, kControlIn8);
  }
  bool has(uint32_t code, OldTrait trait) const {
    return code < traits_.size() && (traits_[code] & trait) != 0;
  }

 private:
  template <size_t N>
  void mark(const CodeRange (&ranges)[N], OldTrait trait) {
    for (const CodeRange& range : ranges)
      for (uint32_t code = range.first; code <= range.last; ++code) traits_[code] |= trait;
  }

  std::vector<uint8_t> traits_;
};

bool has(uint32_t code, OldTrait trait) {
  static const OldTraits traits;
  return traits.has(code, trait);
}

utf8proc_category_t category(uint32_t code) {
  return code == kInvalidUtf8 ? UTF8PROC_CATEGORY_SO : utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

utf8proc_option_t options_of(NormalForm form) {
  int options = UTF8PROC_STABLE;
  options |= form == NormalForm::kNfc || form == NormalForm::kNfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalForm::kNfkc || form == NormalForm::kNfkd) options |= UTF8PROC_COMPAT;
  return static_cast<utf8proc_option_t>(options);
}

/// Appends the form of valid text.
void append_valid(NormalForm form, std::string_view text, std::string& out) {
  if (text.empty()) return;
  utf8proc_uint8_t* made = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &made, options_of(form));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(made, &std::free);
  if (size == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
  require(size >= 0, "cannot normalise a text of {} bytes: {}", text.size(), utf8proc_errmsg(size));
  out.append(reinterpret_cast<const char*>(made), static_cast<size_t>(size));
}

/// A character that normal forms leave where and as it is, since Unicode 9 did not have it.
bool too_new(uint32_t code) { return code >= 0x300 && has(code, kUnassignedIn9); }

/// In NFC, and neither composing with what stands before it nor moved by it.
bool inert_in_nfc(uint32_t code) {
  return code < 0x300 || (code >= 0x400 && code < 0x483) || (code >= 0x3041 && code <= 0x3096) ||
         (code >= 0x30A1 && code <= 0x30FA) || (code >= 0x4E00 && code <= 0x9FFF) ||
         (code >= 0xAC00 && code <= 0xD7A3);
}

/// Only the places that need it go through the library: a run of other characters with the inert one before
/// it.
void append_nfc(std::string_view text, std::string& out) {
  const char* const end = text.data() + text.size();
  const char* done = text.data();
  const char* last = nullptr;  // the inert character before `at`, where what follows may compose with it
  const auto apart = [](uint32_t code) { return code == kInvalidUtf8 || too_new(code); };
  for (const char* at = text.data(); at < end;) {
    const Utf8Character c = decode_utf8(at, end);
    if (inert_in_nfc(c.code) || apart(c.code)) {
      last = apart(c.code) ? nullptr : at;
      at += c.size;
      continue;
    }
    const char* const begin = last ? last : at;
    while (at < end) {
      const Utf8Character next = decode_utf8(at, end);
      if (inert_in_nfc(next.code) || apart(next.code)) break;
      at += next.size;
    }
    out.append(done, begin);
    append_valid(NormalForm::kNfc, {begin, static_cast<size_t>(at - begin)}, out);
    done = at;
    last = nullptr;
  }
  out.append(done, end);
}

}  // namespace

bool surely_normal(NormalForm form, std::string_view text) {
  const uint8_t first_other = form == NormalForm::kNfc ? 0xCC : 0x80;  // 0xCC begins U+0300
  for (const char byte : text)
    if (static_cast<uint8_t>(byte) >= first_other) return false;
  return true;
}

void append_normal(NormalForm form, std::string_view text, std::string& out) {
  if (form == NormalForm::kNfc) return append_nfc(text, out);
  const char* const end = text.data() + text.size();
  const char* begin = text.data();
  for (const char* at = begin; at < end;) {
    const Utf8Character c = decode_utf8(at, end);
    if (c.code == kInvalidUtf8 || too_new(c.code)) {
      append_valid(form, {begin, static_cast<size_t>(at - begin)}, out);
      out.append(at, c.size);
      begin = at + c.size;
    }
    at += c.size;
  }
  append_valid(form, {begin, static_cast<size_t>(end - begin)}, out);
}

void append_lower(uint32_t code, std::string& out) {
  if (code == 0x130) return static_cast<void>(out.append("i\u0307"));
  append_utf8(static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))), out);
}

bool is_space(uint32_t code) {
  return character_class(character_class_table(), code) == CharacterClass::kSpace;
}

bool is_punctuation(uint32_t code) {
  if (code < 0x80)
    return (code >= 33 && code <= 47) || (code >= 58 && code <= 64) || (code >= 91 && code <= 96) ||
           (code >= 123 && code <= 126);
  return has(code, kPunctuationIn8);
}

bool is_nonspacing_mark(uint32_t code) { return has(code, kNonspacingMarkIn8); }
bool is_mark(uint32_t code) { return has(code, kMarkIn9); }
bool is_control(uint32_t code) { return has(code, kControlIn8); }

bool is_word(uint32_t code) {
  const utf8proc_category_t c = category(code);
  return (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_ND) || c == UTF8PROC_CATEGORY_PC;
}

bool is_han(uint32_t code) {
  return (code >= 0x4E00 && code <= 0x9FFF) || (code >= 0x3400 && code <= 0x4DBF) ||
         (code >= 0x20000 && code <= 0x2A6DF) || (code >= 0x2A700 && code <= 0x2B73F) ||
         (code >= 0x2B740 && code <= 0x2B81F) || (code >= 0x2B920 && code <= 0x2CEAF) ||
         (code >= 0xF900 && code <= 0xFAFF) || (code >= 0x2F800 && code <= 0x2FA1F);
}

}  // namespace gatewright
