// The set of models that is served: one or more versions of each. Immutable.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "model.hpp"

namespace taper {

class Catalog {
 public:
  // The first model is the default; of two versions of a name the earlier is the default version.
  explicit Catalog(std::vector<std::shared_ptr<Model>> models) : models_(std::move(models)) {}

  // The model called `name` (empty: the default) whose version starts with `version`, 8 digits or
  // more (empty: the default version); null if there is none.
  std::shared_ptr<Model> find(std::string_view name, std::string_view version) const;

 private:
  std::vector<std::shared_ptr<Model>> models_;
};

}  // namespace taper
