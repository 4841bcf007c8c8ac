#include "text.h"

namespace switchyard::platform {

std::wstring Utf16(const std::string& text) {
  const int bytes = static_cast<int>(text.size());
  std::wstring wide(static_cast<size_t>(MultiByteToWideChar(CP_UTF8, 0, text.data(), bytes, nullptr, 0)), 0);
  MultiByteToWideChar(CP_UTF8, 0, text.data(), bytes, wide.data(), static_cast<int>(wide.size()));
  return wide;
}

std::string Utf8(const std::wstring& text) {
  const int units = static_cast<int>(text.size());
  const int bytes = WideCharToMultiByte(CP_UTF8, 0, text.data(), units, nullptr, 0, nullptr, nullptr);
  std::string narrow(static_cast<size_t>(bytes), 0);
  WideCharToMultiByte(CP_UTF8, 0, text.data(), units, narrow.data(), bytes, nullptr, nullptr);
  return narrow;
}

std::wstring Utf16Path(const std::string& path) {
  std::wstring wide = Utf16(path);
  if (wide.size() < MAX_PATH) return wide;
  if (wide.compare(1, 2, L":\\") == 0) return L"\\\\?\\" + wide;
  const bool is_share = wide.compare(0, 2, L"\\\\") == 0 && wide[2] != L'?' && wide[2] != L'.';
  return is_share ? L"\\\\?\\UNC" + wide.substr(1) : wide;
}

std::string ErrorText(DWORD error) {
  constexpr DWORD kFlags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS;
  wchar_t words[512];
  DWORD length = FormatMessageW(kFlags, nullptr, error, 0, words, sizeof words / sizeof *words, nullptr);
  // It ends in a full stop and a line break.
  while (length > 0 && (words[length - 1] <= L' ' || words[length - 1] == L'.')) length--;
  const std::string number = "error " + std::to_string(error);
  return length == 0 ? number : Utf8({words, length}) + " (" + number + ")";
}

}  // namespace switchyard::platform
