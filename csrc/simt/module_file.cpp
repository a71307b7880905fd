#include "simt/module_file.h"

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

// An open module, and where it was loaded.
struct Module {
  std::ifstream file;
  uintptr_t base = 0;
  std::vector<ElfW(Shdr)> sections;
  size_t name_section = 0;  // holds the names of the sections
};

Module open_module(const void* address) {
  Module module;
  Dl_info info{};
  link_map* map = nullptr;
  if (dladdr1(address, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) == 0 ||
      map == nullptr) {
    return module;
  }
  module.base = map->l_addr;
  module.file.open(map->l_name[0] != '\0' ? map->l_name : "/proc/self/exe", std::ios::binary);
  const auto header = read_table<ElfW(Ehdr)>(module.file, 0, sizeof(ElfW(Ehdr)));
  if (header.empty()) return module;
  module.sections = read_table<ElfW(Shdr)>(module.file, header[0].e_shoff,
                                           header[0].e_shnum * sizeof(ElfW(Shdr)));
  module.name_section = header[0].e_shstrndx;
  return module;
}

std::vector<char> read_names(Module& module, const ElfW(Shdr) & section) {
  auto names = read_table<char>(module.file, section.sh_offset, section.sh_size);
  names.push_back('\0');
  return names;
}

// Kernels have no exported names, so the dynamic linker's dladdr() does not know them.
std::string symbol_at(Module& module, uintptr_t offset) {
  for (const auto& section : module.sections) {
    if (section.sh_type != SHT_SYMTAB || section.sh_link >= module.sections.size()) continue;
    const auto names = read_names(module, module.sections[section.sh_link]);
    for (const auto& symbol :
         read_table<ElfW(Sym)>(module.file, section.sh_offset, section.sh_size)) {
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
  Module module = open_module(address);
  const std::string name = symbol_at(module, reinterpret_cast<uintptr_t>(address) - module.base);
  if (!name.empty()) return demangle(name);
  char text[32];
  std::snprintf(text, sizeof text, "at %p", address);
  return text;
}

std::vector<Range> sections(const std::string& prefix) {
  Module module = open_module(reinterpret_cast<const void*>(&function_name));
  std::vector<Range> found;
  if (module.name_section >= module.sections.size()) return found;
  const auto names = read_names(module, module.sections[module.name_section]);
  for (const auto& section : module.sections) {
    if (section.sh_name >= names.size() || !(section.sh_flags & SHF_ALLOC)) continue;
    if (std::string(&names[section.sh_name]).rfind(prefix, 0) != 0) continue;
    found.push_back({reinterpret_cast<void*>(module.base + section.sh_addr), section.sh_size});
  }
  return found;
}

}  // namespace pymodel::simt::emulator
