#include "stream_state.hpp"

namespace taper {

std::shared_ptr<Model> StreamState::find(const Catalog& catalog, std::string_view model,
                                         std::string_view version) {
  const std::lock_guard lock(mutex_);
  if (!model.empty() || !version.empty()) {
    model_.assign(model);
    version_.assign(version);
  }
  return catalog.find(model_, version_);
}

std::pair<std::string, std::string> StreamState::named() const {
  const std::lock_guard lock(mutex_);
  return {model_, version_};
}

void StreamState::name(std::string model, std::string version) {
  const std::lock_guard lock(mutex_);
  model_ = std::move(model);
  version_ = std::move(version);
}

}  // namespace taper
