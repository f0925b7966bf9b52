#include "catalog.hpp"

#include <algorithm>

namespace taper {
namespace {

constexpr std::size_t kShortestVersion = 8;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool starts_with(std::string_view version, std::string_view prefix) {
  return prefix.size() <= version.size() &&
         std::equal(prefix.begin(), prefix.end(), version.begin(),
                    [](char asked, char known) { return lower(asked) == known; });
}

}  // namespace

std::shared_ptr<Model> Catalog::find(std::string_view name, std::string_view version) const {
  if (models_.empty() || (!version.empty() && version.size() < kShortestVersion)) return nullptr;
  const std::string_view wanted = name.empty() ? std::string_view(models_.front()->name()) : name;
  for (const auto& model : models_) {
    if (model->name() == wanted && starts_with(model->version(), version)) return model;
  }
  return nullptr;
}

}  // namespace taper
