// Text as Windows wants it, and what it says.
#pragma once
// Of windows.h only what is needed, and no macros named min and max.
#define WIN32_LEAN_AND_MEAN
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>

#include <string>

namespace switchyard::platform {

// UTF-8 → UTF-16; what is no UTF-8 becomes U+FFFD.
std::wstring Utf16(const std::string& text);
std::string Utf8(const std::wstring& text);

// An absolute path, with backslashes, that may be longer than the 260 units that Windows allows without ado.
std::wstring Utf16Path(const std::string& path);

// An error of the system in its words, with its number.
std::string ErrorText(DWORD error);

}  // namespace switchyard::platform
