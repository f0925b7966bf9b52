// The state that a stream keeps between its messages. Any thread may call any method.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "catalog.hpp"
#include "look_memory.hpp"

namespace taper {

class StreamState {
 public:
  // Finds the model of a message that names `model` and `version`, and remembers these names. If
  // both are empty, the names of the last message that had any are used. Null if the model is not
  // served.
  std::shared_ptr<Model> find(const Catalog& catalog, std::string_view model,
                              std::string_view version);

  // The model and version named last.
  std::pair<std::string, std::string> named() const;
  void name(std::string model, std::string version);

  LookMemory looks;

 private:
  mutable std::mutex mutex_;
  std::string model_;
  std::string version_;
};

}  // namespace taper
