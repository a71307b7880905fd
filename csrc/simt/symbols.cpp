#include "simt/symbols.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <vector>

namespace pymodel::simt::emulator {
namespace {

std::string demangle(const std::string& name) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), std::free);
  return status == 0 ? text.get() : name;
}

template <typename T>
std::vector<T> read_table(std::ifstream& file, uint64_t offset, uint64_t bytes) {
  std::vector<T> table(bytes / sizeof(T));
  file.seekg(static_cast<std::streamoff>(offset));
  file.read(reinterpret_cast<char*>(table.data()), static_cast<std::streamsize>(bytes));
  return file ? table : std::vector<T>();
}

// The symbol at `offset` from where the module was loaded. Kernels have no exported names, so the
// dynamic linker's dladdr() does not know them.
std::string symbol_in_file(const char* path, uintptr_t offset) {
  std::ifstream file(path, std::ios::binary);
  const auto headers = read_table<ElfW(Ehdr)>(file, 0, sizeof(ElfW(Ehdr)));
  if (headers.empty()) return {};
  const auto sections =
      read_table<ElfW(Shdr)>(file, headers[0].e_shoff, headers[0].e_shnum * sizeof(ElfW(Shdr)));
  for (const auto& section : sections) {
    if (section.sh_type != SHT_SYMTAB || section.sh_link >= sections.size()) continue;
    const auto& strings = sections[section.sh_link];
    auto names = read_table<char>(file, strings.sh_offset, strings.sh_size);
    names.push_back('\0');
    for (const auto& symbol : read_table<ElfW(Sym)>(file, section.sh_offset, section.sh_size)) {
      if ((symbol.st_info & 15) == STT_FUNC && symbol.st_value == offset &&
          symbol.st_name < names.size()) {
        return &names[symbol.st_name];
      }
    }
  }
  return {};
}

}  // namespace

std::string function_name(const void* address) {
  Dl_info info{};
  link_map* map = nullptr;
  if (dladdr1(address, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) != 0 &&
      info.dli_fname != nullptr && map != nullptr) {
    const auto offset = reinterpret_cast<uintptr_t>(address) - map->l_addr;
    const char* path = map->l_name[0] != '\0' ? map->l_name : "/proc/self/exe";
    const std::string name = symbol_in_file(path, offset);
    if (!name.empty()) return demangle(name);
  }
  char text[32];
  std::snprintf(text, sizeof text, "at %p", address);
  return text;
}

}  // namespace pymodel::simt::emulator
