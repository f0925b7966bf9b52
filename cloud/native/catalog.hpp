// The set of served models, each in one or more versions. Immutable.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "model.hpp"

namespace taper {

class Catalog {
 public:
  // The first model is the default model; among the versions of a name the first is the default.
  explicit Catalog(std::vector<std::shared_ptr<Model>> models) : models_(std::move(models)) {}

  // The model called `name` (empty: the default model) whose version starts with `version`, at
  // least 8 digits (empty: the default version). Null if there is none.
  std::shared_ptr<Model> find(std::string_view name, std::string_view version) const;

 private:
  std::vector<std::shared_ptr<Model>> models_;
};

}  // namespace taper
